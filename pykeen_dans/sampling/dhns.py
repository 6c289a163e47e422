"""Diffusion-based hierarchical negative sampling, after DHNS (Niu & Zhang, 2025).

The method generates negatives in two hierarchies: by *hardness*, which is the timestep of a conditional diffusion, and
by *semantic level*, which is the modality in which a negative resembles the true entity: how it is linked, how it is
described, or what it looks like. The paper scores the generated vectors themselves, with a margin that rises from hard
to easy; the callback's options ``latent_weight`` and ``latent_adaptive`` do that. Otherwise they are decoded into
entities, as for all samplers of this plugin, which is our choice, and so is the curriculum over both hierarchies.

This is a re-implementation from the published code and from those parts of the paper that we could read. The published
configuration is kept as the preset ``released``; its generator falls into predicting nothing (see
:mod:`pykeen_dans.multimodal.published`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

from class_resolver import HintOrType
from docdata import parse_docdata
from pykeen.sampling.filtering import Filterer
from pykeen.typing import MappedTriples, Target

from ..bank.decoder import Decoder
from ..engine.coupling import Coupling
from ..engine.curriculum import Curriculum
from ..generators.base import Generator
from ..generators.schedule import NoiseSchedule
from ..multimodal import STRUCTURAL, Modality, modalities_in_use
from ..multimodal.generator import PRESETS, HierarchicalGenerator
from ..multimodal.levels import FeatureProjection, SemanticLevel
from ..utils.storage import content_key
from ..utils.validation import validate_choice, validate_non_negative
from .base import GeneratedNegativeSampler

__all__ = [
    "HierarchicalNegativeSampler",
]

logger = logging.getLogger(__name__)

#: What the paper counts as low and high semantic levels, easy first. Modalities of other names come after these, and
#: the structural level is the last one.
_ORDER = ("visual", "numeric", "textual")
#: The factors of the loss' margin, from easy to hard, that are in the published code
_MARGINS = (0.9, 0.7, 0.5, 0.3)


@functools.cache
def _tell_structural_only() -> None:
    """Tell it once, since data loaders and with them samplers come and go."""
    logger.info(
        "There are no modalities, so that negatives are generated at the structural level alone; give features of "
        "entities by negative_sampler_kwargs=dict(modalities=...)."
    )


def make_levels(modalities: Sequence[Modality], wanted: Sequence[str] | None) -> tuple[SemanticLevel, ...]:
    """Choose the semantic levels and their order.

    :param modalities: the modalities that there are
    :param wanted: the names of the levels, easy first, default: all modalities, the structural level last

    :returns: the levels

    :raises ValueError: if there is no such modality, or if a level is named twice
    """
    available = {modality.name: modality for modality in modalities}
    if wanted is None:
        # a stable sort leaves further modalities in the order in which they were given
        rank = {name: position for position, name in enumerate(_ORDER)}
        wanted = [*sorted(available, key=lambda name: rank.get(name, len(_ORDER))), STRUCTURAL]
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"levels={list(wanted)} must name at least one level, and none of them twice.")
    for name in wanted:
        validate_choice("levels", name, [*available, STRUCTURAL])
    return tuple(
        SemanticLevel(
            name,
            None
            if name == STRUCTURAL
            else FeatureProjection(features=available[name].features, covered=available[name].covered),
        )
        for name in wanted
    )


def flatten_targets(
    targets: Sequence[float] | Mapping[str, Sequence[float]], *, levels: Sequence[str], num_bands: int
) -> tuple[float, ...]:
    """Spell out the target of each band.

    :param targets: the targets of all levels, or those of each by its name
    :param levels: the names of the semantic levels
    :param num_bands: the number of hardness bands

    :returns: the targets, the semantic level being the faster axis

    :raises ValueError: if one is missing
    """
    if not isinstance(targets, Mapping):
        targets = dict.fromkeys(levels, targets)
    if set(targets) != set(levels) or any(len(of_level) != num_bands for of_level in targets.values()):
        given = {name: tuple(of_level) for name, of_level in targets.items()}
        raise ValueError(
            f"targets={given} are not {num_bands} for each of the levels {', '.join(levels)}; give one target for each "
            f"of the bands (timesteps), for all levels or as a mapping from each level's name."
        )
    return tuple(float(targets[name][band]) for band in range(num_bands) for name in levels)


def flatten_weights(
    band_weights: Sequence[float] | None,
    level_weights: Mapping[str, float] | None,
    *,
    levels: Sequence[str],
    num_bands: int,
) -> tuple[float, ...] | None:
    """Spell out the preference for each band.

    :param band_weights: the weight of each hardness band
    :param level_weights: the weight of each semantic level
    :param levels: the names of the semantic levels
    :param num_bands: the number of hardness bands

    :returns: the products, the semantic level being the faster axis, None where nothing is preferred

    :raises ValueError: if the weights do not fit
    """
    if band_weights is None and level_weights is None:
        return None
    bands = [1.0] * num_bands if band_weights is None else list(band_weights)
    by_name = dict.fromkeys(levels, 1.0) if level_weights is None else dict(level_weights)
    if len(bands) != num_bands:
        raise ValueError(f"band_weights={tuple(bands)} are not {num_bands}; give one weight for each of the bands.")
    if set(by_name) != set(levels):
        raise ValueError(f"level_weights={by_name} must give a weight for each of the levels {', '.join(levels)}.")
    for name, values in (("band_weights", bands), ("level_weights", list(by_name.values()))):
        for value in values:
            validate_non_negative(name, value)
        if sum(values) == 0:
            raise ValueError(f"{name} are all zero; give one of them a positive weight.")
    return tuple(band * by_name[name] for band in bands for name in levels)


@parse_docdata
class HierarchicalNegativeSampler(GeneratedNegativeSampler):
    """A sampler that generates negatives by diffusion at levels of hardness and of modality.

    ---
    name: Hierarchical (DHNS)
    citation:
        author: Niu
        year: 2025
        link: https://arxiv.org/abs/2501.15393
        github: ngl567/DHNS
    """

    generator_cls: ClassVar[type[Generator]] = HierarchicalGenerator
    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **GeneratedNegativeSampler.hpo_default,
        "curriculum": {"type": "categorical", "choices": ["exponential", "linear", "constant", "reversed"]},
        "shared": {"type": bool},
        "num_slots": {"type": int, "low": 4, "high": 7, "scale": "power_two"},  # [16, 128]
        "num_steps": {"type": int, "low": 2, "high": 8},
        "hidden_dim": {"type": int, "low": 5, "high": 8, "scale": "power_two"},  # [32, 256]
        "num_blocks": {"type": int, "low": 1, "high": 3},
        "learning_rate": {"type": float, "low": 5e-4, "high": 1e-2, "log": True},
        "condition_dropout": {"type": float, "low": 0.0, "high": 0.5, "q": 0.1},
    }

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        filterer: HintOrType[Filterer] = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
        corruption_scheme: Collection[Target] | None = None,
        curriculum: HintOrType[Curriculum] = None,
        curriculum_kwargs: Mapping[str, Any] | None = None,
        targets: Sequence[float] | Mapping[str, Sequence[float]] = (0.28, 0.21, 0.14, 0.07),
        min_spread: float = 0.1,
        num_slots: int = 16,
        memory: float = 256.0,
        decoder: HintOrType[Decoder] = None,
        decoder_kwargs: Mapping[str, Any] | None = None,
        num_types: int | None = None,
        reference_kwargs: Mapping[str, Any] | None = None,
        fit_steps: int = 500,
        horizon: int | None = None,
        device: str | None = None,
        random_state: int | None = None,
        coupling: Coupling | None = None,
        modalities: Mapping[str, Any] | None = None,
        levels: Sequence[str] | None = None,
        level_weights: Mapping[str, float] | None = None,
        band_weights: Sequence[float] | None = None,
        preset: str = "working",
        shared: bool = True,
        bands: Sequence[int] | None = None,
        num_timesteps: int = 50,
        num_steps: int = 4,
        schedule: HintOrType[NoiseSchedule] = None,
        schedule_kwargs: Mapping[str, Any] | None = None,
        sampling: Literal["ddim", "ddpm"] | None = None,
        noise_loss: Literal["l2", "l1"] | None = None,
        hidden_dim: int | None = None,
        num_blocks: int = 2,
        condition_dropout: float = 0.1,
        learning_rate: float | None = None,
        warm_up: int | None = None,
        max_norm: float | None = None,
        standardised: bool | None = None,
        batch_size: int = 512,
        trained: bool = True,
    ) -> None:
        """Initialise the sampler.

        The parameters that are not listed here are those of :class:`GeneratedNegativeSampler`.

        :param mapped_triples: shape: (num_triples, 3) the training triples
        :param num_entities: see there, and so on to ``coupling``
        :param num_relations: see there
        :param num_negs_per_pos: see there
        :param filtered: see there
        :param filterer: see there
        :param filterer_kwargs: see there
        :param corruption_scheme: see there
        :param curriculum: see there. It moves along both hierarchies.
        :param curriculum_kwargs: see there. The default ``margins`` are those of the published code, .9 for easy to .3
            for hard negatives.
        :param targets: the target rank percentile of each hardness band under the live model, easy first; for all
            semantic levels, or as a mapping from each of their names
        :param min_spread: see there
        :param num_slots: see there
        :param memory: see there
        :param decoder: see there. Entities that a modality does not cover are never decoded from its vectors.
        :param decoder_kwargs: see there
        :param num_types: see there
        :param reference_kwargs: see there
        :param fit_steps: see there
        :param horizon: see there
        :param device: see there
        :param random_state: see there
        :param coupling: see there
        :param modalities: what is known of entities beside their triples, see
            :func:`pykeen_dans.multimodal.load_modalities`. Default: what the training triples bring along; without
            that, there is the structural level alone.
        :param levels: the names of the semantic levels to use, easy first; ``"structural"`` is that of the triples.
            Default: visual, numeric, textual, further modalities as given, structural
        :param level_weights: a factor of the sampling weight of each semantic level, by its name
        :param band_weights: a factor of the sampling weight of each hardness band, easy first. The paper weighs the
            losses of its levels; a weight of sampling has the same effect in expectation on a loss that is a mean over
            negatives (our choice).
        :param preset: ``"working"``, or ``"released"`` for the published configuration, see
            :data:`pykeen_dans.multimodal.generator.PRESETS`; for those of the following parameters that are None
        :param shared: whether one network serves all semantic levels, else each has one of its own
        :param bands: the timesteps of the hardness bands, easy (large) first
        :param num_timesteps: the number of timesteps
        :param num_steps: the number of denoising steps; ignored by ``sampling="ddpm"``
        :param schedule: the noise schedule, see :data:`pykeen_dans.generators.schedule.noise_schedule_resolver`
        :param schedule_kwargs: its parameters, which are added to those of the preset
        :param sampling: ``"ddim"`` for strided deterministic steps, ``"ddpm"`` for the full ancestral chain
        :param noise_loss: ``"l2"`` or ``"l1"``, the distance between noise and predicted noise
        :param hidden_dim: the width of the network
        :param num_blocks: the number of its residual blocks
        :param condition_dropout: the probability with which the condition is left out in training
        :param learning_rate: the learning rate of the generator
        :param warm_up: the number of steps in which the learning rate rises to this
        :param max_norm: the largest norm of a gradient of the generator, 0 for no limit
        :param standardised: whether to standardise the spaces
        :param batch_size: the number of positives in a training step of the generator
        :param trained: whether to train the generator at all; without, it is the noise control of the benchmarks

        :raises ValueError: if an argument is invalid, or a modality cannot be loaded
        """
        chosen = PRESETS[validate_choice("preset", preset, PRESETS)]
        bands = tuple(chosen.bands if bands is None else bands)
        num_entities = int(mapped_triples[:, [0, 2]].max()) + 1 if num_entities is None else num_entities
        loaded = modalities_in_use(modalities, num_entities=num_entities)
        if not loaded:
            _tell_structural_only()
        made = make_levels(loaded, levels)
        names = [level.name for level in made]
        super().__init__(
            mapped_triples=mapped_triples,
            num_entities=num_entities,
            num_relations=num_relations,
            num_negs_per_pos=num_negs_per_pos,
            filtered=filtered,
            filterer=filterer,
            filterer_kwargs=filterer_kwargs,
            corruption_scheme=corruption_scheme,
            curriculum=curriculum,
            curriculum_kwargs={"margins": _MARGINS, **(curriculum_kwargs or {})},
            targets=flatten_targets(targets, levels=names, num_bands=len(bands)),
            min_spread=min_spread,
            num_slots=num_slots,
            memory=memory,
            decoder=decoder,
            decoder_kwargs=decoder_kwargs,
            # all entities get the same noise in this method
            difficulty="constant",
            difficulty_kwargs=None,
            num_types=num_types,
            reference_kwargs=reference_kwargs,
            fit_steps=fit_steps,
            horizon=horizon,
            device=device,
            random_state=random_state,
            coupling=coupling,
            num_levels=len(made),
            preferences=flatten_weights(band_weights, level_weights, levels=names, num_bands=len(bands)),
            # with a callback, nothing is shared by content
            content="" if coupling else content_key(**{modality.name: modality.features for modality in loaded}),
            generator_options={
                "levels": made,
                "preset": preset,
                "shared": shared,
                "bands": bands,
                "num_timesteps": num_timesteps,
                "num_steps": num_steps,
                "schedule": schedule,
                "schedule_kwargs": schedule_kwargs,
                "sampling": sampling,
                "loss": noise_loss,
                "hidden_dim": hidden_dim,
                "num_blocks": num_blocks,
                "condition_dropout": condition_dropout,
                "learning_rate": learning_rate,
                "warm_up": warm_up,
                "max_norm": max_norm,
                "standardised": standardised,
                "batch_size": batch_size,
                "trained": trained,
            },
        )
