"""From generated vectors to entity ids.

The papers score generated vectors themselves; PyKEEN's losses, filterers and trackers want ids. A decoder finds
entities near a vector. Taking the *nearest* ones does harm: a small set of neighbours, the same at each refresh, is
pushed down again and again (CoDEx-S, validation MRR .341, against .354 of uniform sampling and .359 of a spread, seed
11; ``benchmarks/results/validation_trials.jsonl``). What works is a *spread*: a draw from the nearest few per cent of
all entities, whatever their number.

The spread need not search all entities. Among a random pool of ``k / spread`` entities, the ``k`` nearest to a vector
are a draw of size ``k`` from the nearest ``spread`` of all, up to the luck of the pool. So the cost of a query does not
grow with the number of entities.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from class_resolver import ClassResolver
from pykeen.typing import FloatTensor, LongTensor
from torch import Tensor
from torch.nn import functional

from ..graph import QueryIndex
from ..space.entity_space import EntitySpace
from ..utils.validation import validate_positive

__all__ = [
    "Decoder",
    "NearestDecoder",
    "SoftmaxDecoder",
    "SpreadDecoder",
    "decoder_resolver",
]


class Decoder(ABC):
    """Find entities near generated vectors.

    Known training answers of the query, and so the positive itself, are never among them.

    :param min_candidates: the fewest candidates to draw from, however small the spread
    """

    def __init__(self, *, min_candidates: int = 64) -> None:
        """Initialise the decoder."""
        validate_positive("min_candidates", min_candidates)
        self.min_candidates = min_candidates

    def __call__(
        self,
        latent: FloatTensor,
        *,
        spaces: Sequence[EntitySpace],
        index: QueryIndex,
        rows: LongTensor,
        spreads: Sequence[float],
        num_slots: int,
        random: torch.Generator,
    ) -> LongTensor:
        """Decode vectors.

        :param latent: shape: (n, num_bands, dim) standardised vectors
        :param spaces: for each band the space of its vectors
        :param index: the queries with their known answers
        :param rows: shape: (n,) the positions of the queries in the index
        :param spreads: for each band the share of all entities, the nearest ones, from which candidates come
        :param num_slots: the number of ids wanted for each query and band
        :param random: the source of randomness, on the CPU

        :returns: shape: (n, num_bands, num_slots) entity ids. -1 for what a query has no candidates for.
        """
        return torch.stack(
            [
                self.decode_band(
                    latent[:, band],
                    space=space,
                    index=index,
                    rows=rows,
                    spread=spread,
                    num_slots=num_slots,
                    random=random,
                )
                for band, (space, spread) in enumerate(zip(spaces, spreads, strict=True))
            ],
            dim=1,
        )

    @abstractmethod
    def decode_band(
        self,
        latent: FloatTensor,
        *,
        space: EntitySpace,
        index: QueryIndex,
        rows: LongTensor,
        spread: float,
        num_slots: int,
        random: torch.Generator,
    ) -> LongTensor:
        """Decode the vectors of one band.

        :param latent: shape: (n, dim)
        :param space: the space of the band
        :param index: see :meth:`__call__`
        :param rows: shape: (n,)
        :param spread: the spread of the band
        :param num_slots: see :meth:`__call__`
        :param random: see :meth:`__call__`

        :returns: shape: (n, num_slots)
        """


def similarity(latent: FloatTensor, space: EntitySpace, pool: LongTensor) -> FloatTensor:
    """Compare vectors with entities by the cosine.

    :param latent: shape: (n, dim)
    :param space: the current entity vectors
    :param pool: shape: (k,) the entities to compare with

    :returns: shape: (n, k)
    """
    vectors = space.vectors[pool.to(space.device)]
    return functional.normalize(latent, dim=-1) @ functional.normalize(vectors, dim=-1).T


def take_nearest(
    score: FloatTensor,
    known: Tensor,
    *,
    num_candidates: int,
    num_slots: int,
    random: torch.Generator,
) -> LongTensor:
    """Draw from the candidates with the highest score.

    :param score: shape: (n, k)
    :param known: shape: (n, k) candidates that must not be taken
    :param num_candidates: how many of the best to draw from
    :param num_slots: how many to draw, without replacement while there are enough, then each as often as the others
    :param random: the source of randomness

    :returns: shape: (n, num_slots) columns, -1 where a row has no candidate at all
    """
    num_candidates = min(num_candidates, score.shape[1])
    known = known.to(score.device)
    best, column = score.masked_fill(known, -math.inf).topk(num_candidates, dim=-1, sorted=False)
    valid = torch.isfinite(best)
    if num_slots != num_candidates or not bool(valid.all()):
        # shuffle each row, the candidates that may be taken first, and go round them as often as it takes
        key = torch.rand(best.shape, generator=random).to(score.device).masked_fill(~valid, 2.0)
        column = column.gather(1, key.argsort(dim=-1))
        count = valid.sum(dim=-1, keepdim=True)
        turn = torch.arange(num_slots, device=score.device)[None, :] % count.clamp(min=1)
        column = torch.where(count > 0, column.gather(1, turn), -1)
    return column


class SpreadDecoder(Decoder):
    """Draw from the nearest few per cent of all entities (default)."""

    def decode_band(
        self,
        latent: FloatTensor,
        *,
        space: EntitySpace,
        index: QueryIndex,
        rows: LongTensor,
        spread: float,
        num_slots: int,
        random: torch.Generator,
    ) -> LongTensor:
        """Draw from the nearest entities of a random pool, see :meth:`Decoder.decode_band`."""
        pool_size = math.ceil(num_slots / spread)
        pool = space.draw(pool_size, random)
        # where the pool is everything, all that the spread holds may be drawn, else the pool is a draw already
        num_candidates = (
            max(self.min_candidates, math.ceil(spread * len(pool))) if pool_size >= space.num_members else num_slots
        )
        column = take_nearest(
            similarity(latent, space, pool),
            index.known(rows, pool),
            num_candidates=num_candidates,
            num_slots=num_slots,
            random=random,
        ).cpu()
        return torch.where(column >= 0, pool[column.clamp(min=0)], -1)


class NearestDecoder(Decoder):
    """Take the nearest entities, whatever the spread; kept to show why one should not."""

    def decode_band(
        self,
        latent: FloatTensor,
        *,
        space: EntitySpace,
        index: QueryIndex,
        rows: LongTensor,
        spread: float,
        num_slots: int,
        random: torch.Generator,
    ) -> LongTensor:
        """Take the nearest entities, see :meth:`Decoder.decode_band`."""
        pool = space.draw(space.num_members, random)
        column = take_nearest(
            similarity(latent, space, pool),
            index.known(rows, pool),
            num_candidates=num_slots,
            num_slots=num_slots,
            random=random,
        ).cpu()
        return torch.where(column >= 0, pool[column.clamp(min=0)], -1)


class SoftmaxDecoder(SpreadDecoder):
    """Draw by the softmax of the similarity, without replacement, from a pool of the size that the spread tells.

    :param temperature: the temperature of the softmax over cosines; near 0 it takes the nearest of the pool
    :param min_candidates: see :class:`Decoder`
    """

    def __init__(self, *, temperature: float = 0.1, min_candidates: int = 64) -> None:
        """Initialise the decoder."""
        super().__init__(min_candidates=min_candidates)
        validate_positive("temperature", temperature)
        self.temperature = temperature

    def decode_band(
        self,
        latent: FloatTensor,
        *,
        space: EntitySpace,
        index: QueryIndex,
        rows: LongTensor,
        spread: float,
        num_slots: int,
        random: torch.Generator,
    ) -> LongTensor:
        """Draw by softmax from a random pool, see :meth:`Decoder.decode_band`."""
        pool = space.draw(max(self.min_candidates, math.ceil(num_slots / spread)), random)
        score = similarity(latent, space, pool) / self.temperature
        # the largest of scores with Gumbel noise are a draw without replacement from their softmax
        uniform = torch.rand(score.shape, generator=random).to(score.device).clamp(min=1e-20)
        column = take_nearest(
            score - torch.log(-torch.log(uniform)),
            index.known(rows, pool),
            num_candidates=num_slots,
            num_slots=num_slots,
            random=random,
        ).cpu()
        return torch.where(column >= 0, pool[column.clamp(min=0)], -1)


#: A resolver for decoders
decoder_resolver: ClassResolver[Decoder] = ClassResolver.from_subclasses(
    base=Decoder,  # type: ignore[type-abstract]
    default=SpreadDecoder,
)
