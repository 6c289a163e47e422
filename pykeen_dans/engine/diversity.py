"""Whether a generator has collapsed, and how much of what it makes should be used then.

A collapsed generator makes the same few vectors whatever it is asked, and the few entities near them would be pushed
down by all queries alike. So the entities nearest to generated vectors are counted, and compared with those nearest to
the vectors of known answers of the same queries, which is what a perfect imitator would make. When there are far fewer,
the share of generated negatives is lowered in proportion, and training goes on with uniform ones instead; so is the
weight of the loss of vectors that are scored themselves. (All of this is our choice; the papers do not say what to do.)
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch.nn import functional

from ..generators import Generator
from ..graph import QueryIndex
from ..space import EntitySpace

__all__ = [
    "MAX_DEVIATIONS",
    "Diversity",
    "has_diverged",
    "measure_diversity",
]

#: The number of entities among which the nearest one is looked for, so that the cost does not grow with the graph
_POOL = 4096
#: No vector that makes sense is this many standard deviations away from the mean
MAX_DEVIATIONS = 100.0


@dataclasses.dataclass(frozen=True)
class Diversity:
    """How diverse a sample of generated vectors is.

    :param distinct: the number of distinct entities nearest to generated vectors, as a share of that for known answers
        of the same queries, at most 1; that of the band and source in which it is least
    :param cosine: the mean cosine between two vectors of a band, for different queries; 1 if all are the same
    :param false: the share of vectors to which a known answer of the query is nearest, among a pool of at most 4,096
        entities, so that in larger graphs it is less than among all of them
    """

    distinct: float
    cosine: float
    false: float

    @classmethod
    def none(cls) -> Diversity:
        """Make that of a generator which has nothing to show."""
        return cls(distinct=0.0, cosine=math.nan, false=math.nan)

    @property
    def metrics(self) -> dict[str, float]:
        """The same by the names of metrics."""
        return {"distinct": self.distinct, "cosine": self.cosine, "nearest_known": self.false}


def has_diverged(generator: Generator, vectors: FloatTensor) -> bool:
    """Tell whether a generator has learned, or makes, what is no number or far out of bounds.

    :param generator: the generator
    :param vectors: shape: (...) some of its standardised vectors

    :returns: whether it has
    """
    learned = itertools.chain(generator.parameters(), generator.buffers())
    # NaN is not larger than any bound
    inside = bool((vectors.abs() <= MAX_DEVIATIONS).all())
    return not inside or not all(bool(torch.isfinite(tensor).all()) for tensor in learned)


class _Pool:
    """Some entities of a space, among which the nearest one to a vector is looked for.

    :param space: the space
    :param answers: shape: (n,) known answers
    :param random: the source of randomness, on the CPU
    """

    def __init__(self, space: EntitySpace, answers: LongTensor, random: torch.Generator) -> None:
        """Draw the entities."""
        self.entities = space.draw(_POOL, random)
        self.vectors = functional.normalize(space.vectors[self.entities.to(space.device)], dim=-1)
        #: the number of distinct entities nearest to the answers
        self.expected = len(self.nearest(space.vectors[answers.to(space.device)]).unique())

    def nearest(self, vectors: FloatTensor) -> LongTensor:
        """Find the nearest entity to each vector by the cosine, shape: (n,), on the CPU."""
        return self.entities[(vectors @ self.vectors.T).argmax(dim=-1).cpu()]


@torch.no_grad()
def measure_diversity(
    vectors: FloatTensor,
    *,
    spaces: Sequence[EntitySpace],
    index: QueryIndex,
    rows: LongTensor,
    random: torch.Generator,
) -> Diversity:
    """Measure the diversity of generated vectors.

    :param vectors: shape: (n, num_bands, num_sources, dim) standardised vectors
    :param spaces: for each source the space of its vectors
    :param index: the queries with their known answers
    :param rows: shape: (n,) the positions of the queries in the index
    :param random: the source of randomness, on the CPU

    :returns: the diversity
    """
    answers = index.sample_answer(rows, random)
    distinct, cosines, known = [], [], []
    for source, space in enumerate(spaces):
        pool = _Pool(space, answers, random)
        for of_band in vectors[:, :, source].unbind(dim=1):
            nearest = pool.nearest(of_band)
            distinct.append(min(1.0, len(nearest.unique()) / pool.expected))
            unit = functional.normalize(of_band, dim=-1)
            # of all pairs but those of a vector with itself
            pairs = max(1, len(unit) * (len(unit) - 1))
            cosines.append((unit.sum(dim=0).pow(2).sum() - unit.pow(2).sum()).item() / pairs)
            known.append(index.is_answer(rows, nearest).float().mean().item())
    return Diversity(distinct=min(distinct), cosine=sum(cosines) / len(cosines), false=sum(known) / len(known))
