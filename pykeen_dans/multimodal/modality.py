"""A modality: one vector for each entity that has one, and the knowledge of which have none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pykeen.triples import CoreTriplesFactory
from pykeen.typing import BoolTensor, FloatTensor

__all__ = [
    "STRUCTURAL",
    "Modality",
    "attach_modalities",
    "attached_modalities",
]

#: The name of the modality that is the model's own: what it has learned from triples
STRUCTURAL = "structural"

#: Where the modalities of a data set are in the metadata of its training triples
_KEY = "modalities"


@dataclasses.dataclass(frozen=True, eq=False)
class Modality:
    """Features of entities.

    An entity without features is *not* one whose features are zero: zero is a position in the space of features, next
    to which other entities would be taken for similar ones. Hence the mask.

    :param name: the name: ``textual``, ``visual``, ``numeric``, or any other one but ``structural``
    :param features: shape: (num_entities, dim) float32, zeros for entities that are not covered
    :param covered: shape: (num_entities,) whether an entity has features
    """

    name: str
    features: FloatTensor
    covered: BoolTensor

    @property
    def dim(self) -> int:
        """The number of features."""
        return self.features.shape[1]

    @property
    def coverage(self) -> float:
        """The share of entities that have features."""
        return self.covered.float().mean().item()


def attach_modalities(triples_factory: CoreTriplesFactory, modalities: Mapping[str, Any]) -> None:
    """Let training triples bring modalities along, for samplers and models that are given none explicitly.

    They are kept in the *metadata* of the triples factory, which PyKEEN hands on when triples are split or exchanged,
    and writes into its cache of data sets and into its binary files. So they should be expressible as JSON, e.g. paths.

    :param triples_factory: the training triples
    :param modalities: the modalities, as for :func:`pykeen_dans.multimodal.load_modalities`. They are loaded when they
        are used.
    """
    triples_factory.metadata = {**triples_factory.metadata, _KEY: dict(modalities)}


def attached_modalities(triples_factory: CoreTriplesFactory | None) -> Mapping[str, Any] | None:
    """Get the modalities that training triples bring along.

    :param triples_factory: the training triples, if there are any

    :returns: the modalities, as they were attached, or None where there are none
    """
    return None if triples_factory is None else triples_factory.metadata.get(_KEY)
