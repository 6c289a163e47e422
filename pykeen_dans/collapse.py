"""Whether a generator has collapsed, and how much of what it makes should be used then.

A collapsed generator makes the same few vectors whatever it is asked, and the few entities near them would be pushed
down by all queries alike. So the entities nearest to generated vectors are counted, and compared with those nearest to
the vectors of known answers of the same queries, which is what a perfect imitator would make. When there are far fewer,
the share of generated negatives is lowered in proportion, and training goes on with uniform ones instead. (All of this
is our choice; the papers do not say what to do.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch.nn import functional

from .bank import QueryIndex
from .generation.space import EntitySpace

__all__ = [
    "DEFAULT_MIN_DISTINCT",
    "Diversity",
    "measure_diversity",
]

#: The diversity below which a generator counts as collapsed, where nothing else is asked for
DEFAULT_MIN_DISTINCT = 0.1
#: The number of entities among which the nearest one is looked for, so that the cost does not grow with the graph
_POOL = 4096


@dataclasses.dataclass(frozen=True)
class Diversity:
    """How diverse a sample of generated vectors is.

    :param distinct: the number of distinct entities nearest to generated vectors, as a share of that for known answers
        of the same queries, at most 1; that of the band in which it is least
    :param cosine: the mean cosine between two vectors of a band, for different queries; 1 if all are the same
    :param false: the share of vectors to which a known answer of the query is nearest. Decoders mask these.
    """

    distinct: float
    cosine: float
    false: float

    @property
    def metrics(self) -> dict[str, float]:
        """The same by the names of metrics."""
        return {"distinct": self.distinct, "cosine": self.cosine, "nearest_known": self.false}


def _nearest(vectors: FloatTensor, space: EntitySpace, pool: LongTensor) -> LongTensor:
    candidates = functional.normalize(space.vectors[pool.to(space.device)], dim=-1)
    return pool[(functional.normalize(vectors, dim=-1) @ candidates.T).argmax(dim=-1).cpu()]


@torch.no_grad()
def measure_diversity(
    latent: FloatTensor,
    *,
    spaces: Sequence[EntitySpace],
    index: QueryIndex,
    rows: LongTensor,
    random: torch.Generator,
) -> Diversity:
    """Measure the diversity of generated vectors.

    :param latent: shape: (n, num_bands, dim) standardised vectors
    :param spaces: for each band the space of its vectors
    :param index: the queries with their known answers
    :param rows: shape: (n,) the positions of the queries in the index
    :param random: the source of randomness, on the CPU

    :returns: the diversity
    """
    answers = index.sample_answer(rows, random)
    distinct, cosines, known = [], [], []
    for band, space in enumerate(spaces):
        pool = space.draw(_POOL, random)
        nearest = _nearest(latent[:, band], space, pool)
        expected = _nearest(space.vectors[answers.to(space.device)], space, pool)
        distinct.append(min(1.0, len(nearest.unique()) / len(expected.unique())))
        unit = functional.normalize(latent[:, band], dim=-1)
        # of all pairs but those of a vector with itself
        pairs = max(1, len(unit) * (len(unit) - 1))
        cosines.append((unit.sum(dim=0).pow(2).sum() - unit.pow(2).sum()).item() / pairs)
        known.append(index.is_answer(rows, nearest).float().mean().item())
    return Diversity(distinct=min(distinct), cosine=sum(cosines) / len(cosines), false=sum(known) / len(known))
