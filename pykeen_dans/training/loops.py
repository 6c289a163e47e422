"""Training loops that bring a sampler and the curriculum callback along.

They exist so that ``pykeen train`` can name them, which has no option for samplers or callbacks, and for what a
callback cannot do: score generated candidates beside a shared pool, weigh the loss of generated negatives, and move its
margin.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pykeen.sampling import NegativeSampler, negative_sampler_resolver
from pykeen.training.callbacks import callback_resolver
from pykeen.triples.instances import SLCWABatch
from pykeen.typing import FloatTensor
from torch.utils.data import DataLoader

from ..sampling import (
    DiffusionAdaptiveNegativeSampler,
    GeneratedNegativeSampler,
    HierarchicalNegativeSampler,
    TwoWayGANNegativeSampler,
)
from ..scoring.proposals import BankProposal
from ..scoring.query_forms import scores_vectors
from ..utils.validation import validate_flag, validate_share
from .callback import CurriculumTrainingCallback
from .order import OrderedTrainingLoop
from .shared_negatives import SharedNegativesTrainingLoop

__all__ = [
    "CurriculumTrainingLoop",
    "DANSKGCTrainingLoop",
    "DANSTrainingLoop",
    "DHNSTrainingLoop",
    "GeneratedTrainingLoop",
]


def _with_curriculum(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Add the curriculum callback to those that were asked for, where it is not among them.

    :param kwargs: the keyword-based parameters of a training

    :returns: the same, with the callbacks made
    """
    # size probing comes without the user's callbacks; its samplers share the coupling of the training around it
    if kwargs.get("only_size_probing"):
        return kwargs
    hints, parameters = kwargs.get("callbacks"), kwargs.get("callbacks_kwargs")
    # without a callback of the user's, the parameters are those of the only one that there is
    made = callback_resolver.make_many(hints or CurriculumTrainingCallback, parameters)
    if not any(isinstance(callback, CurriculumTrainingCallback) for callback in made):
        made.append(CurriculumTrainingCallback())
    return {**kwargs, "callbacks": made, "callbacks_kwargs": None}


class GeneratedTrainingLoop(SharedNegativesTrainingLoop):
    """The loop of shared, corrected negatives, with generated candidates on top, coupled to the model.

    Subclasses name the sampler, and may choose how its candidates enter beside a pool of all entities. What is
    generated enters through the pool, to which a quarter as many candidates from the bank are added: there it costs
    next to nothing in a step, what is estimated stays the same, and no entity comes less often than without. Ids of
    each query (``num_own``) double the time of a step on a CPU, and a larger pool gained more for it; vectors
    (``num_vectors``) change what is estimated, and gained on small, dense graphs alone. Both are left out by default,
    but for graphs so small that the pool is all entities: there, unless a subclass says otherwise, what is generated
    enters as ids of each query, which count once as they did anyway, so that it can be looked at, and changes nothing
    but time.

    :param kwargs: keyword-based parameters of :class:`SharedNegativesTrainingLoop`. Without a negative sampler, it is
        the one of this class. Without a proposal, it is ``"bank"``, or ``"uniform"`` with ids or vectors.
    """

    #: The sampler where none is asked for
    sampler_cls: ClassVar[type[GeneratedNegativeSampler]]
    #: The number of generated ids of each query where the pool is all entities, and nothing else is asked for
    num_own_beside_all: ClassVar[int] = 8

    def __init__(self, **kwargs: Any) -> None:
        """Initialise the training loop."""
        if kwargs.get("negative_sampler") is None:
            kwargs["negative_sampler"] = self.sampler_cls
        is_told = kwargs.get("proposal") is not None or kwargs.get("num_own") or kwargs.get("num_vectors")
        if not is_told:
            kwargs["proposal"] = BankProposal
        super().__init__(**kwargs)
        if "num_own" not in kwargs and self.pool_is_all and not self.reads_vectors:
            self._add_beside_all(kwargs)

    def _add_beside_all(self, kwargs: Mapping[str, Any]) -> None:
        """Choose how generated candidates enter beside a pool of all entities.

        :param kwargs: what the loop was made with, which says nothing of it
        """
        self.num_own = self.num_own_beside_all

    def _train(self, *args: Any, **kwargs: Any) -> list[float] | None:
        """Train the model, with the curriculum callback beside those that were asked for."""
        return super()._train(*args, **_with_curriculum(kwargs))


class DANSKGCTrainingLoop(GeneratedTrainingLoop):
    """Shared negatives, with candidates of the sampler ``dans_kgc`` on top."""

    sampler_cls: ClassVar[type[GeneratedNegativeSampler]] = DiffusionAdaptiveNegativeSampler


class DANSTrainingLoop(GeneratedTrainingLoop):
    """Shared negatives, with candidates of the sampler ``dans`` on top.

    Beside a pool of all entities, they are vectors of the entity way, which are scored themselves: they gained .014 on
    UMLS, and nothing on Kinships (validation MRR of ComplEx, three seeds). Where the sampler is told what to generate,
    or the model has no single vector for each entity, they are ids, as in the other loops.
    """

    sampler_cls: ClassVar[type[GeneratedNegativeSampler]] = TwoWayGANNegativeSampler
    #: The number of generated vectors of each query where the pool is all entities, and nothing else is asked for
    num_vectors_beside_all: ClassVar[int] = 4
    #: What the sampler generates then
    sampler_kwargs_beside_all: ClassVar[Mapping[str, Any]] = {
        "targets": (0.2,),
        "generator_kwargs": {"pathways": "entity", "distances": (1.0,)},
    }

    def _add_beside_all(self, kwargs: Mapping[str, Any]) -> None:
        given = self.negative_sampler_kwargs or {}
        is_told = "num_vectors" in kwargs or bool(given.keys() & {"generator", *self.sampler_kwargs_beside_all})
        is_ours = not isinstance(self.negative_sampler, NegativeSampler) and (
            negative_sampler_resolver.lookup(self.negative_sampler) is self.sampler_cls
        )
        if is_told or not is_ours or self.mode is not None or not scores_vectors(self.model):
            super()._add_beside_all(kwargs)
        else:
            self.negative_sampler_kwargs = {**self.sampler_kwargs_beside_all, **given}
            self.num_vectors = self.num_vectors_beside_all


class DHNSTrainingLoop(GeneratedTrainingLoop):
    """Shared negatives, with candidates of the sampler ``dhns`` on top."""

    sampler_cls: ClassVar[type[GeneratedNegativeSampler]] = HierarchicalNegativeSampler


class CurriculumTrainingLoop(OrderedTrainingLoop):
    r"""The sLCWA training loop with a generated sampler, coupled to the model by the callback ``curriculum``.

    This is how the papers train: each positive has negatives of its own, which are scored one by one. It is known to
    PyKEEN as ``training_loop="curriculum"``.

    :param eta: the weight of the loss of generated negatives against that of uniform ones, $\eta L_{generated} + (1 -
        \eta) L_{uniform}$ as in DANS-KGC (the convex form is inferred from a secondary summary). None: all negatives
        weigh the same, as in PyKEEN; losses that weigh negatives by their scores, as NSSA, then see hardly any but
        generated ones. The default is our choice, by validation triples of three graphs. Where the ``share`` of a
        positive's negatives is no whole number, one that is uniform for some positives is among the generated ones.
        It needs at least two negatives of each positive (``num_negs_per_pos``); PyKEEN's default is one.
    :param adapt_margin: whether to multiply the loss' margin by the curriculum's factor, "stage-aware" as in DANS-KGC
    :param kwargs: keyword-based parameters of :class:`pykeen.training.SLCWATrainingLoop`. Without a negative sampler,
        it is ``dans_kgc``.

    :raises ValueError: if an argument is invalid
    """

    #: The sampler where none is asked for
    sampler_cls: ClassVar[type[GeneratedNegativeSampler]] = DiffusionAdaptiveNegativeSampler

    def __init__(self, *, eta: float | None = 0.3, adapt_margin: bool = False, **kwargs: Any) -> None:
        """Initialise the training loop."""
        if kwargs.get("negative_sampler") is None:
            kwargs["negative_sampler"] = self.sampler_cls
        super().__init__(**kwargs)
        self.eta = None if eta is None else validate_share("eta", eta)
        self.adapt_margin = validate_flag("adapt_margin", adapt_margin)
        if adapt_margin and not getattr(self.loss, "margin", None):
            raise ValueError(
                f"adapt_margin=True needs a loss with a margin, and {type(self.loss).__name__} has none; use e.g. "
                f"loss='marginranking', or leave it out."
            )
        #: the sampler of the training under way
        self.sampler_in_use: GeneratedNegativeSampler | None = None

    def _train(self, *args: Any, **kwargs: Any) -> list[float] | None:
        """Train the model, with the curriculum callback beside those that were asked for."""
        return super()._train(*args, **_with_curriculum(kwargs))

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what a training makes for itself, so that results on disk stay small."""
        return {**vars(self), "sampler_in_use": None}

    # docstr-coverage: inherited
    def _create_training_data_loader(self, *args: Any, **kwargs: Any) -> DataLoader[SLCWABatch]:
        loader = super()._create_training_data_loader(*args, **kwargs)
        sampler = loader.dataset.negative_sampler  # type: ignore[attr-defined]
        # of a training and its validation loss, both have the same engine
        self.sampler_in_use = sampler if isinstance(sampler, GeneratedNegativeSampler) else None
        return loader

    # docstr-coverage: inherited
    def _process_batch(self, batch: SLCWABatch, start: int, stop: int, *args: Any, **kwargs: Any) -> FloatTensor:
        with self._stage():
            if self.eta is None or self.sampler_in_use is None:
                return super()._process_batch(batch, start, stop, *args, **kwargs)
            first = math.ceil(self.sampler_in_use.num_generated)
            parts = [_columns(batch, slice(first)), _columns(batch, slice(first, None))]
            # there may be one part only, or a filterer has masked all of the other one
            if not all(_has_negatives(part, start, stop) for part in parts):
                return super()._process_batch(batch, start, stop, *args, **kwargs)
            process = super()._process_batch
            generated, uniform = (process(part, start, stop, *args, **kwargs) for part in parts)
            return self.eta * generated + (1 - self.eta) * uniform

    @contextlib.contextmanager
    def _stage(self) -> Iterator[None]:
        """Give the loss the margin of the curriculum's stage, and its own one back whatever happens."""
        if not self.adapt_margin or self.sampler_in_use is None:
            yield
            return
        loss: Any = self.loss
        margin = loss.margin
        loss.margin = margin * self.sampler_in_use.state.margin_factor
        try:
            yield
        finally:
            loss.margin = margin


def _columns(batch: SLCWABatch, columns: slice) -> SLCWABatch:
    """Take some of the negatives of each positive, with all that belongs to them."""
    part: Any = dict(batch)
    for key in {"negatives", "masks", "neg_weights"} & set(batch):
        part[key] = part[key][:, columns].contiguous()
    return part


def _has_negatives(batch: SLCWABatch, start: int, stop: int) -> bool:
    """Tell whether there is any negative in a (sub-) batch."""
    masks = batch.get("masks")
    return batch["negatives"].shape[1] > 0 and (masks is None or bool(masks[start:stop].any()))
