"""What is looked at: a training, a sampler, or a trained model, and whatever belongs to it."""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TypeAlias

from class_resolver import HintOrType
from pykeen.models import Model
from pykeen.pipeline import PipelineResult
from pykeen.sampling import NegativeSampler, negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop, TrainingLoop
from pykeen.triples import CoreTriplesFactory
from tqdm.auto import trange

from ..bank import NegativeBank
from ..engine.coupling import Coupling
from ..engine.engine import GenerationEngine
from ..engine.settings import UpdateBudget
from ..sampling.base import GeneratedNegativeSampler
from ..space import UnsupportedModelError, live_space
from ..training.generated import is_generated
from ..training.loops import CurriculumTrainingLoop
from ..training.shared_negatives import SharedNegativesTrainingLoop
from ..utils.frames import triples_factory_in_use, within_training
from ..utils.private import finished_epochs
from ..utils.triples import as_trained
from ..utils.validation import lookup_by_name
from .saved import read_directory

__all__ = [
    "Source",
    "Subject",
    "bank_of",
    "sampler_of",
    "subject_of",
]

logger = logging.getLogger(__name__)

#: How often the bands are steered, and the training steps of the generator before each time, for a finished model
_ROUNDS, _FIT_STEPS = 6, 50


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is looked at.

    :param triples_factory: the training triples
    :param sampler: the sampler, None for a loop that has none
    :param loop: the training loop, where its negatives are shared by the batch
    :param model: the model by which hardness is measured, None to leave it out
    """

    triples_factory: CoreTriplesFactory
    sampler: NegativeSampler | None = None
    loop: SharedNegativesTrainingLoop | None = None
    model: Model | None = None


#: What can be looked at
Source: TypeAlias = "Subject | PipelineResult | TrainingLoop[Any] | NegativeSampler | Model | str | os.PathLike[str]"


def subject_of(
    source: Source,
    *,
    triples_factory: CoreTriplesFactory | None = None,
    model: Model | None = None,
    negative_sampler: HintOrType[NegativeSampler] = None,
    negative_sampler_kwargs: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Subject:
    """Find all that belongs to something.

    :param source: the result of a pipeline, a training loop, a sampler, a trained model, or a directory that PyKEEN has
        saved, by ``result.save_to_directory(...)`` or ``pykeen train --output-directory``
    :param triples_factory: the training triples, for loops outside of a training, samplers and models
    :param model: the model by which hardness is measured, default: the one of the training, none for a sampler
    :param negative_sampler: the sampler to look at instead of the one of the training, for models and directories
        PyKEEN's default. One that generates negatives does so for the model as it is, at the end of its curriculum.
    :param negative_sampler_kwargs: its parameters
    :param trust: whether to read the model of a directory. It is a pickle, which can run any code as it is read, so
        that it is left alone unless you say that you trust whoever made it.

    :returns: the training triples, the sampler or the loop, and the model

    :raises ValueError: if something is missing, or if a training draws no negatives
    """
    if isinstance(source, Subject):
        return source
    if isinstance(source, str | os.PathLike):
        triples_factory, saved = read_directory(pathlib.Path(source), trust=trust, with_model=model is None)
        model = saved if model is None else model
        assert model is not None
        source = model
    if isinstance(source, PipelineResult):
        triples_factory = triples_factory or source.training
        source = source.training_loop
    if isinstance(source, NegativeSampler):
        return Subject(_needed(triples_factory, source), sampler=source, model=model)
    if isinstance(source, TrainingLoop):
        # an inductive model scores other entities than those of training
        model = model if model is not None or source.mode is not None else source.model
        if negative_sampler is None:
            triples_factory = triples_factory or triples_factory_in_use()
            if isinstance(source, SharedNegativesTrainingLoop):
                sampler = None if source._generated is None else source._generated.sampler
                return Subject(_needed(triples_factory, source), sampler=sampler, loop=source, model=model)
            return Subject(
                _needed(triples_factory, source),
                sampler=sampler_of(source, triples_factory=triples_factory),
                model=model,
            )
    elif isinstance(source, Model):
        model = source
    else:
        raise ValueError(
            f"{type(source).__name__} is nothing to look at; give the result of a pipeline, a training loop, a "
            f"sampler, a model, or the directory of a saved result."
        )
    factory = _needed(triples_factory, source)
    return Subject(factory, sampler=_make(negative_sampler, negative_sampler_kwargs, factory, model), model=model)


def sampler_of(
    source: PipelineResult | TrainingLoop[Any], *, triples_factory: CoreTriplesFactory | None = None
) -> NegativeSampler:
    """Get the sampler of a training, after it or, by a callback, during it.

    The bank and the curriculum of a sampler that generates negatives are those of the training. PyKEEN keeps no sampler
    beyond the training; those of PyKEEN have nothing to lose, and are made again.

    :param source: the result of a pipeline, or a training loop, as ``self.training_loop`` in a callback
    :param triples_factory: the training triples, default: those of the pipeline, or of the training under way

    :returns: the sampler

    :raises ValueError: if the training has none
    """
    if isinstance(source, PipelineResult):
        triples_factory = triples_factory or source.training
        source = source.training_loop
    if not isinstance(source, SLCWATrainingLoop):
        raise ValueError(
            f"{type(source).__name__} draws no negatives, so that there is no sampler; use training_loop='slcwa' or "
            f"one of this package, or name a negative_sampler to look at."
        )
    if isinstance(source, SharedNegativesTrainingLoop):
        if source._generated is None:
            raise ValueError(
                f"{type(source).__name__} draws a pool for each batch, and has no sampler; describe(...) and "
                f"negatives_frame(...) show the pool."
            )
        return source._generated.sampler
    if isinstance(source, CurriculumTrainingLoop) and source.sampler_in_use is not None:
        return source.sampler_in_use
    if isinstance(source.negative_sampler, NegativeSampler):
        return source.negative_sampler
    kwargs = dict(source.negative_sampler_kwargs or {})
    coupling: Coupling | None = kwargs.get("coupling")
    if coupling is not None and coupling.sampler is not None:
        return coupling.sampler
    factory = _needed(triples_factory or triples_factory_in_use(), source)
    if is_generated(source.negative_sampler):
        kwargs.setdefault("horizon", max(1, finished_epochs(source)))
    made = _make(source.negative_sampler, kwargs, factory, None)
    if isinstance(made, GeneratedNegativeSampler):
        made.seen.reset(finished_epochs(source) * made.num_triples)
    return made


def bank_of(
    source: PipelineResult | TrainingLoop[Any] | NegativeSampler, *, triples_factory: CoreTriplesFactory | None = None
) -> NegativeBank:
    """Get the bank of generated ids of a training, after it or, by a callback, during it.

    :param source: the result of a pipeline, a training loop, or a sampler
    :param triples_factory: as for :func:`sampler_of`

    :returns: the bank

    :raises ValueError: if nothing is generated
    """
    sampler = source if isinstance(source, NegativeSampler) else sampler_of(source, triples_factory=triples_factory)
    if not isinstance(sampler, GeneratedNegativeSampler) or not sampler.engine.generates:
        raise ValueError(
            f"negative_sampler={type(sampler).__name__} generates nothing, so that there is no bank; use e.g. "
            f"negative_sampler='dans_kgc'."
        )
    return sampler.engine.bank


def _needed(triples_factory: CoreTriplesFactory | None, source: object) -> CoreTriplesFactory:
    if triples_factory is None:
        raise ValueError(
            f"triples_factory=None: a {type(source).__name__} does not tell its training triples; pass "
            f"triples_factory, e.g. dataset.training, or the result of the pipeline instead."
        )
    return triples_factory


def _make(
    hint: HintOrType[NegativeSampler],
    kwargs: Mapping[str, Any] | None,
    factory: CoreTriplesFactory,
    model: Model | None,
) -> NegativeSampler:
    """Make a sampler; with a model, one that generates negatives for it as it is."""
    if isinstance(hint, NegativeSampler):
        return hint
    cls = lookup_by_name("negative_sampler", negative_sampler_resolver, hint)
    kwargs = dict(kwargs or {})
    coupled = model is not None and issubclass(cls, GeneratedNegativeSampler)
    if coupled:
        kwargs["coupling"] = Coupling(progress=1.0)
    made = within_training(
        factory,
        lambda: negative_sampler_resolver.make(
            cls,
            kwargs,
            mapped_triples=as_trained(factory),
            num_entities=factory.num_entities,
            num_relations=factory.num_relations,
        ),
    )
    if model is not None and isinstance(made, GeneratedNegativeSampler) and made.engine.generates:
        _generate_for(model, made.engine)
    return made


def _generate_for(model: Model, engine: GenerationEngine) -> None:
    """Fill the bank of an engine for a model that is no longer trained."""
    try:
        space = live_space(model)
    except UnsupportedModelError as error:
        logger.warning("Negatives are generated in the space of the reference embedding: %s", error)
        space = engine.reference_space()
    for _ in trange(_ROUNDS - 1, desc="Fitting the generator", leave=False):
        engine.update(space, model, UpdateBudget(fit_steps=_FIT_STEPS, refresh_queries=0))
    engine.update(space, model, UpdateBudget(fit_steps=_FIT_STEPS), use_tqdm=True)
