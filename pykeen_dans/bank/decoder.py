"""From generated vectors to entity ids.

The papers score generated vectors themselves; PyKEEN's losses, filterers and trackers want ids. A decoder finds
entities near a vector. Taking the *nearest* ones does harm: a small set of neighbours, the same at each refresh, is
pushed down again and again (CoDEx-S, validation MRR .341, against .354 of uniform sampling and .359 of a spread, seed
11). What works is a *spread*: a draw from the nearest few per cent of
all entities, whatever their number.

The spread need not search all entities. Among a random pool of ``k / spread`` entities, the ``k`` nearest to a vector
are a draw of size ``k`` from the nearest ``spread`` of all, up to the luck of the pool. So the cost of a query does not
grow with the number of entities. Pools of at least 512 entities, or all that there are, leave little to luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import Tensor
from torch.nn import functional

from ..graph import QueryIndex
from ..space import EntitySpace
from ..utils.validation import validate_at_least

__all__ = [
    "SpreadDecoder",
    "take_nearest",
]

#: The smallest pool in which the nearest entities are looked for, where there are so many
_LEAST_POOL = 512


def take_nearest(
    score: FloatTensor, excluded: Tensor | None, *, num_candidates: int, num_slots: int, random: torch.Generator
) -> LongTensor:
    """Draw from the candidates with the highest score.

    :param score: shape: (n, k)
    :param excluded: shape: (n, k) candidates that must not be taken, None for none
    :param num_candidates: how many of the best to draw from
    :param num_slots: how many to draw, without replacement while there are enough, then each as often as the others
    :param random: the source of randomness

    :returns: shape: (n, num_slots) columns, -1 where a row has no candidate at all
    """
    if excluded is not None:
        score = score.masked_fill(excluded.to(score.device), -math.inf)
    best, column = score.topk(min(num_candidates, score.shape[1]), dim=-1, sorted=False)
    valid = torch.isfinite(best)
    if num_slots != column.shape[1] or not bool(valid.all()):
        # shuffle each row, the candidates that may be taken first, and go round them as often as it takes
        key = torch.rand(best.shape, generator=random).to(score.device).masked_fill(~valid, 2.0)
        column = column.gather(1, key.argsort(dim=-1))
        count = valid.sum(dim=-1, keepdim=True)
        turn = torch.arange(num_slots, device=score.device)[None, :] % count.clamp(min=1)
        column = torch.where(count > 0, column.gather(1, turn), -1)
    return column


class SpreadDecoder:
    """Draw from the nearest few per cent of all entities.

    :param num_slots: the number of ids wanted for each vector
    :param min_candidates: the fewest entities to draw from, however small the spread
    :param masks_known: whether known answers of a query are never among its ids

    :raises ValueError: if an argument is invalid
    """

    def __init__(self, *, num_slots: int, min_candidates: int = 4, masks_known: bool = False) -> None:
        """Initialise the decoder."""
        self.num_slots = validate_at_least("num_slots", num_slots, 1)
        self.min_candidates = validate_at_least("min_candidates", min_candidates, 1)
        self.masks_known = masks_known

    def __call__(
        self,
        vectors: FloatTensor,
        *,
        spaces: Sequence[EntitySpace],
        index: QueryIndex,
        rows: LongTensor,
        spreads: Sequence[Sequence[float]],
        random: torch.Generator,
    ) -> LongTensor:
        """Decode vectors.

        :param vectors: shape: (n, num_bands, num_sources, dim) standardised vectors
        :param spaces: for each source the space of its vectors
        :param index: the queries with their known answers
        :param rows: shape: (n,) the positions of the queries in the index
        :param spreads: for each band and source the share of all entities, the nearest ones, from which ids come
        :param random: the source of randomness, on the CPU

        :returns: shape: (n, num_bands, num_sources, num_slots) entity ids. -1 for what a query has no candidates for.
        """
        return torch.stack(
            [
                torch.stack(
                    [
                        self.decode(
                            vectors[:, band, source],
                            space=space,
                            index=index,
                            rows=rows,
                            spread=spreads[band][source],
                            random=random,
                        )
                        for source, space in enumerate(spaces)
                    ],
                    dim=1,
                )
                for band in range(vectors.shape[1])
            ],
            dim=1,
        )

    def decode(
        self,
        vectors: FloatTensor,
        *,
        space: EntitySpace,
        index: QueryIndex,
        rows: LongTensor,
        spread: float,
        random: torch.Generator,
    ) -> LongTensor:
        """Decode the vectors of one band and source.

        :param vectors: shape: (n, dim)
        :param space: their space
        :param index: see :meth:`__call__`
        :param rows: shape: (n,)
        :param spread: their spread
        :param random: see :meth:`__call__`

        :returns: shape: (n, num_slots)
        """
        # all queries of a call share the pool, so that it must not be a handful of entities
        pool = space.draw(max(_LEAST_POOL, math.ceil(self.num_slots / spread)), random)
        num_candidates = math.ceil(spread * len(pool))
        if len(pool) == space.num_members:
            num_candidates = max(self.min_candidates, num_candidates)
        candidates = space.vectors[pool.to(space.device)]
        similarity = functional.normalize(vectors, dim=-1) @ functional.normalize(candidates, dim=-1).T
        column = take_nearest(
            similarity,
            index.known(rows, pool) if self.masks_known else None,
            num_candidates=num_candidates,
            num_slots=self.num_slots,
            random=random,
        ).cpu()
        return torch.where(column >= 0, pool[column.clamp(min=0)], -1)
