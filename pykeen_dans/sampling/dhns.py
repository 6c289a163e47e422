"""Diffusion-based hierarchical negative sampling, after DHNS (Niu & Zhang, 2025).

The method generates negatives in two hierarchies: by *hardness*, which is the timestep of a conditional diffusion, and
by *semantic level*, which is the modality in which a negative resembles the true entity: how it is linked, how it is
described, or what it looks like. The paper scores the generated vectors themselves, with a margin that rises from hard
to easy; the callback's options ``vector_weight`` and ``band_margins`` do that. Otherwise they are decoded into
entities, as for all samplers of this plugin, which is our choice, and so is the curriculum over both hierarchies.

This is a re-implementation from the published code and from those parts of the paper that we could read. The published
configuration is kept as the generator ``published-hierarchical``; at its width it falls into predicting nothing (see
:mod:`pykeen_dans.multimodal.published`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from docdata import parse_docdata
from pykeen.typing import MappedTriples

from ..generators import generator_resolver
from ..multimodal import STRUCTURAL, Modality, modalities_in_use
from ..multimodal import published as _published  # noqa: F401  # registers its generator
from ..multimodal.generator import HierarchicalGenerator
from ..multimodal.levels import FeatureProjection, SemanticLevel
from ..utils.logs import info_once
from ..utils.validation import (
    lookup_by_name,
    validate_choice,
    validate_mapping,
    validate_sequence,
    validate_triples,
)
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
    wanted = [validate_choice("levels", name, [*available, STRUCTURAL]) for name in validate_sequence("levels", wanted)]
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"levels={wanted!r} must list at least one level, and none of them twice.")
    return tuple(
        SemanticLevel(
            name,
            None
            if name == STRUCTURAL
            else FeatureProjection(features=available[name].features, covered=available[name].covered),
        )
        for name in wanted
    )


@parse_docdata
class HierarchicalNegativeSampler(GeneratedNegativeSampler):
    """A sampler that generates negatives by diffusion at levels of hardness and of modality, known as "dhns".

    It is :class:`GeneratedNegativeSampler` with the generator ``"hierarchical"``, whose options are those of
    :class:`pykeen_dans.multimodal.generator.HierarchicalGenerator`. The margins of its curriculum are those of the
    published code. Entities that a modality does not cover are never decoded from its vectors.

    :param mapped_triples: shape: (num_triples, 3) the training triples
    :param modalities: what is known of entities beside their triples, see
        :func:`pykeen_dans.multimodal.load_modalities`. Default: what the training triples bring along; without that,
        there is the structural level alone.
    :param levels: the names of the semantic levels to use, easy first; ``"structural"`` is that of the triples.
        Default: visual, numeric, textual, further modalities as given, structural
    :param kwargs: as for :class:`GeneratedNegativeSampler`

    :raises ValueError: if an argument is invalid, or a modality cannot be loaded

    ---
    name: Hierarchical (DHNS)
    citation:
        author: Niu
        year: 2025
        link: https://arxiv.org/abs/2501.15393
        github: ngl567/DHNS
    """

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        modalities: Mapping[str, Any] | None = None,
        levels: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialise the sampler."""
        num_entities, _ = validate_triples(
            mapped_triples, num_entities=kwargs.get("num_entities"), num_relations=kwargs.get("num_relations")
        )
        if num_entities is None:
            num_entities = int(mapped_triples[:, [0, 2]].max()) + 1
        loaded = modalities_in_use(modalities, num_entities=num_entities)
        if not loaded:
            info_once(
                logger,
                "There are no modalities, so that negatives are generated at the structural level alone; give features "
                "of entities by negative_sampler_kwargs=dict(modalities=...).",
            )
        options = {"generator": "hierarchical", **kwargs}
        chosen = make_levels(loaded, levels)
        if issubclass(lookup_by_name("generator", generator_resolver, options["generator"]), HierarchicalGenerator):
            given = validate_mapping("generator_kwargs", kwargs.get("generator_kwargs"))
            options["generator_kwargs"] = {**given, "levels": chosen}
        given = validate_mapping("curriculum_kwargs", kwargs.get("curriculum_kwargs"))
        options["curriculum_kwargs"] = {"margins": _MARGINS, **given}
        super().__init__(mapped_triples=mapped_triples, **options)
