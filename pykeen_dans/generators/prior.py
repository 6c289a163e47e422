r"""Vectors near the kept entity, and near what the model makes of entity and relation.

These are what the two pathways of DANS begin from, $z_E \sim N(e_h, \sigma^2 I)$ and $z_R \sim N(e_h \otimes e_r,
\sigma^2 I)$ (Liu et al., 2024; from a secondary summary of the paper, with the $\sigma$ of the authors' published
code). Nothing is trained here, so that this generator is at once the cheapest one and the control of the GAN.

What is ours: all of it happens in the standardised space of entities, so that $\sigma$ is in units of its standard
deviation; the combination and its inverse are those of the model under training; and hardness bands. A band is a
relative *distance* from the positive: 1 is the vector itself, as in the paper, smaller numbers are points on the way
from it to a known answer, whose neighbours are the more plausible the nearer they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from pykeen.typing import FloatTensor, LongTensor

from ..graph import Graph, QueryBatch
from ..space.entity_space import EntitySpace
from ..utils.validation import validate_non_negative, validate_numbers, validate_sequence
from .base import Generator, generator_resolver

__all__ = [
    "PATHWAYS",
    "PriorGenerator",
    "Start",
]

#: From the kept entity, and from kept entity and relation
PATHWAYS = ("entity", "relation")
#: The factor by which a distance is changed at once, and the least ratio of neighbouring distances
_STEP, _GAP = 0.8, 1.1


@dataclasses.dataclass(frozen=True)
class Start:
    """What a pathway starts from.

    :param condition: shape: (n, dim) the vector of the kept entity, or what the model makes of it and the relation
    :param prior: shape: (n, dim) the same with noise
    """

    condition: FloatTensor
    prior: FloatTensor


def _validate_pathways(name: str, value: Sequence[str]) -> tuple[str, ...]:
    pathways = (value,) if isinstance(value, str) else validate_sequence(name, value)
    if not pathways or any(pathway not in PATHWAYS or pathways.count(pathway) > 1 for pathway in pathways):
        raise ValueError(f"{name}={value!r} must name 'entity', 'relation', or both, once each.")
    return pathways


def _validate_distances(name: str, value: Sequence[float], num_bands: int) -> tuple[float, ...]:
    distances = validate_numbers(name, value)
    ordered = list(distances) == sorted(set(distances), reverse=True)
    if len(distances) != num_bands or not ordered or any(not 0 < distance <= 1 for distance in distances):
        raise ValueError(
            f"{name}={value!r} must be {num_bands} numbers in (0, 1], one for each target, the easiest (largest) first "
            f"and none twice; for example {tuple(np.linspace(1.0, 0.5, num_bands).round(2).tolist())}."
        )
    return distances


class PriorGenerator(Generator):
    r"""Generate vectors near the kept entity, and near what the model makes of entity and relation.

    Where the model's way to combine both is not known, the second is the first.

    :param dim: the dimension of the spaces
    :param num_relations: the number of relations
    :param num_bands: the number of hardness bands
    :param pathways: ``"entity"``, ``"relation"``, or both
    :param distances: the relative distance of each hardness band from a known answer, in (0, 1], easy (large) first.
        Default: equal steps from 1 to .5
    :param sigma: the standard deviation $\sigma$ of the noise, in units of that of the entity vectors

    :raises ValueError: if an argument is invalid
    """

    changing: ClassVar[tuple[str, ...]] = ("distances",)

    def __init__(
        self,
        *,
        dim: int,
        num_relations: int,
        num_bands: int = 2,
        pathways: Sequence[str] = PATHWAYS,
        distances: Sequence[float] | None = None,
        sigma: float = 0.01,
    ) -> None:
        """Initialise the generator."""
        super().__init__(dim=dim, num_relations=num_relations, num_bands=num_bands)
        self.sources = _validate_pathways("pathways", pathways)
        if distances is None:
            distances = np.linspace(1.0, 0.5, num_bands).tolist()
        wanted = _validate_distances("distances", distances, num_bands)
        #: for each band the distance of each source
        self.distances = [[distance] * len(self.sources) for distance in wanted]
        #: no band comes nearer. Without this bound, bands slid onto the positives of UMLS, and whatever the pathways
        #: made no longer mattered.
        self.nearest = wanted[-1]
        self.sigma = validate_non_negative("sigma", sigma)

    def combine(self, space: EntitySpace, queries: QueryBatch) -> FloatTensor:
        """Combine kept entities and relations.

        :param space: the current entity vectors
        :param queries: n queries

        :returns: shape: (n, dim)
        """
        kept, relations, sides = (x.to(space.device) for x in (queries.kept, queries.relations, queries.sides))
        return space.queries(kept, relations, sides)

    def start(self, space: EntitySpace, queries: QueryBatch, random: torch.Generator) -> list[Start]:
        """Draw what the pathways start from.

        :param space: the current entity vectors
        :param queries: n queries
        :param random: the source of randomness, on the CPU

        :returns: one for each pathway
        """
        starts = []
        for pathway in self.sources:
            condition = (
                space.vectors[queries.kept.to(space.device)] if pathway == "entity" else self.combine(space, queries)
            )
            noise = torch.randn(condition.shape, generator=random).to(condition.device)
            starts.append(Start(condition=condition, prior=condition + self.sigma * noise))
        return starts

    def fakes(self, space: EntitySpace, queries: QueryBatch, random: torch.Generator) -> list[FloatTensor]:
        """Make fake answers.

        :param space: the current entity vectors
        :param queries: n queries
        :param random: the source of randomness, on the CPU

        :returns: for each pathway, shape: (n, dim) standardised vectors
        """
        return [start.prior for start in self.start(space, queries, random)]

    @torch.no_grad()
    def generate(
        self, *, space: EntitySpace, graph: Graph, queries: QueryBatch, random: torch.Generator
    ) -> FloatTensor:
        """Generate vectors at the distances of the bands, see :meth:`Generator.generate`."""
        answers: LongTensor = graph.index.sample_answer(queries.rows, random).to(space.device)
        positives = space.vectors[answers][:, None, None]
        fakes = torch.stack(self.fakes(space, queries, random), dim=1)[:, None]
        distances = torch.tensor(self.distances, device=space.device)[None, :, :, None]
        return positives + distances * (fakes - positives)

    def adjust_hardness(self, band: int, source: int, *, harder: bool) -> bool:
        """Move a band towards or away from the positive, within the room that its neighbours leave."""
        current = self.distances[band][source]
        upper = self.distances[band - 1][source] / _GAP if band > 0 else 1.0
        lower = self.distances[band + 1][source] * _GAP if band + 1 < self.num_bands else self.nearest
        wanted = max(lower, current * _STEP) if harder else min(upper, current / _STEP)
        moved = wanted < current if harder else wanted > current
        if moved:
            self.distances[band][source] = wanted
        return moved


generator_resolver.register(PriorGenerator)
