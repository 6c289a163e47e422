"""The closed loop that holds the hardness of generated negatives.

What counts as hard is a *rank percentile under the model under training*: the share of all entities that the model
scores higher than the candidate. A fixed number of nearest entities is right for a graph of two thousand entities and
ruinous for one of fifteen thousand, and a fixed spread grows easier as the model sharpens. So the percentile of each
hardness band is measured at each refresh on a sample of queries, and the spread of the decoder, then the timestep of
the band, are moved towards the target. This loop is our own; the papers fix a timestep and hope.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from pykeen.typing import FloatTensor, LongTensor

from ..generators.base import Generator
from ..graph import HEAD, TAIL, QueryBatch, QueryIndex
from ..utils.models import evaluating
from ..utils.validation import validate_between

__all__ = [
    "HardnessSteering",
    "rank_percentiles",
    "score_candidates",
]

if TYPE_CHECKING:
    from pykeen.models import Model

logger = logging.getLogger(__name__)


def score_candidates(model: Model, queries: QueryBatch, candidates: LongTensor) -> FloatTensor:
    """Score candidate entities by the model under training, in evaluation mode.

    :param model: the model
    :param queries: n queries
    :param candidates: shape: (n, k) entity ids

    :returns: shape: (n, k) scores on the CPU, higher for more plausible
    """
    scores = torch.empty(candidates.shape)
    with evaluating(model):
        for side in (HEAD, TAIL):
            (chosen,) = (queries.sides == side).nonzero(as_tuple=True)
            if len(chosen) == 0:
                continue
            kept, relations, entities = (
                x[chosen].to(model.device) for x in (queries.kept, queries.relations, candidates)
            )
            result = (
                model.score_t(torch.stack([kept, relations], dim=-1), tails=entities)
                if side == TAIL
                else model.score_h(torch.stack([relations, kept], dim=-1), heads=entities)
            )
            scores[chosen] = result.float().cpu()
    return scores


def rank_percentiles(
    *,
    model: Model,
    index: QueryIndex,
    queries: QueryBatch,
    candidates: LongTensor,
    pool_size: int = 512,
    random: torch.Generator,
) -> FloatTensor:
    """Measure how hard candidates are for the model.

    :param model: the model under training
    :param index: the queries with their known answers, which do not count as competitors
    :param queries: n queries
    :param candidates: shape: (n, k) entity ids, -1 for none
    :param pool_size: the number of random entities that stand for all entities
    :param random: the source of randomness, on the CPU

    :returns: shape: (n, k) the share of entities that score higher, ties counted half; NaN where there is no candidate
    """
    pool = torch.randperm(index.num_entities, generator=random)[:pool_size]
    present = candidates >= 0
    combined = torch.cat([pool.expand(len(queries), -1), candidates.clamp(min=0)], dim=1)
    scores = score_candidates(model, queries, combined)
    competitors, own = scores[:, : len(pool)], scores[:, len(pool) :]
    valid = ~index.known(queries.rows, pool)
    higher = (competitors[:, None, :] > own[:, :, None]) & valid[:, None, :]
    equal = (competitors[:, None, :] == own[:, :, None]) & valid[:, None, :]
    count = valid.sum(dim=1).clamp(min=1)
    percentile = (higher.sum(dim=-1) + 0.5 * equal.sum(dim=-1)) / count[:, None]
    return percentile.masked_fill(~present, math.nan)


class HardnessSteering:
    """Hold each band at its target percentile, by the spread of the decoder and the timestep of the generator.

    :param targets: the wanted mean rank percentile of each band, easy (large) first
    :param min_spread: the smallest spread, as a share of all entities. The few nearest entities of each query, pushed
        down again and again, harm a model, so that hardness beyond this spread has to come from the generator.
    :param gain: the exponent with which the ratio of target and measurement acts on the spread. 1 jumps at once to what
        a proportional law says, smaller values are calmer.
    :param tolerance: a band whose ratio is within this factor is left alone
    :param num_levels: the number of semantic levels, the faster axis of the bands. The order of targets is checked for
        each of them.
    """

    #: for each band the share of all entities, the nearest ones, from which candidates are drawn
    spreads: list[float]
    #: the last measured mean percentiles, None before the first measurement
    measured: list[float] | None

    def __init__(
        self,
        targets: Sequence[float],
        *,
        min_spread: float = 0.1,
        gain: float = 0.5,
        tolerance: float = 1.1,
        num_levels: int = 1,
    ) -> None:
        """Initialise with the spreads that would be right if nearness were plausibility."""
        of_levels = [list(targets[level::num_levels]) for level in range(num_levels)]
        if any(not of_level or of_level != sorted(of_level, reverse=True) for of_level in of_levels) or any(
            not 0 < target <= 0.5 for target in targets
        ):
            raise ValueError(
                f"targets={tuple(targets)} must be rank percentiles in (0, 0.5], one for each band, the easiest "
                f"(largest) first, for example (0.3, 0.1, 0.05, 0.02)."
            )
        self.targets = tuple(targets)
        self.min_spread = validate_between("min_spread", min_spread, 1e-4, 1.0)
        self.gain = gain
        self.tolerance = tolerance
        # a uniform draw from the best share s has a mean percentile of s / 2
        self.spreads = [self._clip(2 * target) for target in targets]
        self.measured = None

    def _clip(self, spread: float) -> float:
        return min(1.0, max(self.min_spread, spread))

    def widen(self, spread: float) -> None:
        """Draw all bands from at least this share of all entities.

        :param spread: the share
        """
        self.spreads = [max(spread, current) for current in self.spreads]

    def update(self, measured: Sequence[float], generator: Generator) -> None:
        """Move towards the targets.

        :param measured: the mean percentile of each band, NaN for a band that could not be measured
        :param generator: the generator, whose timesteps are moved where the spread has come to its limit
        """
        self.measured = list(measured)
        for band, (target, value) in enumerate(zip(self.targets, measured, strict=True)):
            if math.isnan(value):
                continue
            ratio = target / max(value, 1e-3)
            if 1 / self.tolerance < ratio < self.tolerance:
                continue
            spread = self._clip(self.spreads[band] * ratio**self.gain)
            if spread == self.spreads[band]:
                generator.adjust_hardness(band, harder=ratio < 1)
            self.spreads[band] = spread
