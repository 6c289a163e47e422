"""The closed loop that holds the hardness of generated negatives.

What counts as hard is a *rank percentile under the model under training*: the share of all entities that the model
scores higher than the candidate. A fixed number of nearest entities is right for a graph of two thousand entities and
ruinous for one of fifteen thousand, and a fixed spread grows easier as the model sharpens. So the median percentile of
each hardness band is measured at each update on a sample of queries, and the spread of the decoder, then the means of
the generator itself, are moved towards the target. This loop is our own; the papers fix a timestep and hope.

What is in the bank was made for the model of some updates ago, and is easier for that of now. How much easier than when
it was made is measured, too, and what is made now is made harder by so much, that what training draws is on target.

Bands keep their distance: the spreads of neighbours differ by a tenth at least. A model that does not rank known
answers yet cannot tell what is hard, and is not asked.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pykeen.typing import FloatTensor, LongTensor

from ..generators import Generator
from ..graph import HEAD, TAIL, QueryBatch, QueryIndex
from ..utils.models import evaluating
from ..utils.validation import validate_share

__all__ = [
    "HardnessSteering",
    "median_percentiles",
    "rank_percentiles",
    "score_candidates",
]

if TYPE_CHECKING:
    from pykeen.models import Model

logger = logging.getLogger(__name__)

#: The largest number of scores that are computed at once, each counted as often as an entity vector has numbers, since
#: interactions may make vectors of that size, and multiples of it, for each score
_MAX_ENTRIES = 2**18
#: The smallest distance of neighbouring bands, as a ratio of their spreads
_LEAST_RATIO = 1.1
#: How slowly the ageing of the bank is learned: how much the last measurement counts at least
_LEAST_WEIGHT = 0.2
#: How much harder new candidates become at most, to make up for old ones
_MAX_AGEING = 4.0
#: What belongs to the state
_STATE = ("spreads", "percentiles", "made", "ageing", "renewed", "num_written", "num_measured", "num_updates")


def score_candidates(model: Model, queries: QueryBatch, candidates: LongTensor) -> FloatTensor:
    """Score candidate entities by the model under training, in evaluation mode.

    :param model: the model
    :param queries: n queries
    :param candidates: shape: (n, k) entity ids

    :returns: shape: (n, k) scores on the CPU, higher for more plausible
    """
    scores = torch.empty(candidates.shape, dtype=torch.float32)
    at_once = max(1, _MAX_ENTRIES // _entity_size(model))
    num_columns = min(candidates.shape[1], at_once)
    with evaluating(model):
        for side in (HEAD, TAIL):
            (of_side,) = (queries.sides == side).nonzero(as_tuple=True)
            # not all interactions work with no queries at all
            for chosen in of_side.split(max(1, at_once // max(1, num_columns))) if len(of_side) else ():
                kept, relations = (x[chosen].to(model.device) for x in (queries.kept, queries.relations))
                for start in range(0, candidates.shape[1], num_columns):
                    part = slice(start, start + num_columns)
                    entities = candidates[chosen, part].to(model.device)
                    result = (
                        model.score_t(torch.stack([kept, relations], dim=-1), tails=entities)
                        if side == TAIL
                        else model.score_h(torch.stack([relations, kept], dim=-1), heads=entities)
                    )
                    scores[chosen, part] = result.float().cpu()
    return scores


def _entity_size(model: Model) -> int:
    """Tell how many numbers the representations of an entity have."""
    sizes = [math.prod(representation.shape) for representation in getattr(model, "entity_representations", ())]
    return max(1, sum(sizes))


def rank_percentiles(
    *,
    model: Model,
    index: QueryIndex,
    queries: QueryBatch,
    candidates: LongTensor,
    pool_size: int = 256,
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
    # what does not count comes last, and what is no number is higher than nothing
    ordered = competitors.nan_to_num(nan=-math.inf).masked_fill(~valid, math.inf).sort(dim=1).values
    lower, not_higher = (torch.searchsorted(ordered, own.contiguous(), right=right) for right in (False, True))
    count = valid.sum(dim=1, keepdim=True)
    percentile = (count - 0.5 * (lower + not_higher)).clamp(min=0) / count.clamp(min=1)
    return percentile.masked_fill(~present, math.nan)


def median_percentiles(
    *, model: Model, index: QueryIndex, queries: QueryBatch, ids: Sequence[LongTensor], random: torch.Generator
) -> list[list[list[float]]]:
    """Measure the hardness of several ids at once, such that what they are compared with is scored once.

    :param model: the model under training
    :param index: the queries with their known answers
    :param queries: n queries
    :param ids: shapes: (n, num_bands, num_sources, k), which may differ, entity ids, -1 for none
    :param random: the source of randomness, on the CPU

    :returns: for each of the ids, and each band and source of them, the median rank percentile, NaN without candidates.
        The median, since a few candidates that miss by far are harmless, and would hide how hard most of them are.
    """
    flat = [each.flatten(start_dim=1) for each in ids]
    ranks = rank_percentiles(
        model=model, index=index, queries=queries, candidates=torch.cat(flat, dim=1), random=random
    ).split([each.shape[1] for each in flat], dim=1)
    by_band = [
        part.reshape(each.shape).permute(1, 2, 0, 3).flatten(start_dim=2) for part, each in zip(ranks, ids, strict=True)
    ]
    return [part.nanmedian(dim=-1).values.tolist() for part in by_band]


class HardnessSteering:
    """Hold each band at its target percentile, by the spread of the decoder and the means of the generator.

    :param targets: the wanted median rank percentile of each band, easy (large) first
    :param num_sources: the number of sources of each band
    :param min_spread: the smallest spread, as a share of all entities. The few nearest entities of each query, pushed
        down again and again, harm a model, so that hardness beyond this spread has to come from the generator.
    :param gain: the exponent with which the ratio of target and measurement acts on the spread. 1 jumps at once to what
        a proportional law says, smaller values are calmer.
    :param tolerance: a band whose ratio is within this factor is left alone
    """

    #: for each band and source the share of all entities, the nearest ones, from which candidates are drawn
    spreads: list[list[float]]
    #: for each band and source the last median percentile of what training draws, NaN before it was measured
    percentiles: list[list[float]]
    #: for each band and source how hard the candidates in the bank were when they were made, NaN before it was measured
    made: list[list[float]]
    #: for each band and source the factor by which their percentiles have grown since
    ageing: list[list[float]]

    def __init__(
        self,
        targets: Sequence[float],
        *,
        num_sources: int = 1,
        min_spread: float = 0.0,
        gain: float = 0.5,
        tolerance: float = 1.1,
    ) -> None:
        """Initialise with the spreads that would be right if nearness were plausibility."""
        self.targets = tuple(targets)
        self.min_spread = validate_share("min_spread", min_spread)
        self.gain = gain
        self.tolerance = tolerance
        # a uniform draw from the best share s has a median percentile of s / 2
        self.spreads = [[max(self.min_spread, min(1.0, 2 * target))] * num_sources for target in targets]
        self.percentiles = [[math.nan] * num_sources for _ in targets]
        self.made = copy.deepcopy(self.percentiles)
        self.ageing = [[1.0] * num_sources for _ in targets]
        #: the share of the bank that was made anew since the last measurement, and the number of its rows with anything
        self.renewed, self.num_written = 0.0, 0
        #: how often the bands were measured by a model that can tell, and how often moved then where they had to be
        self.num_measured, self.num_updates = 0, 0

    def widen(self, spread: float) -> None:
        """Draw all bands from at least this share of all entities.

        :param spread: the share
        """
        self.spreads = [[max(spread, current) for current in of_band] for of_band in self.spreads]

    def _room(self, band: int, source: int) -> tuple[float, float]:
        """Tell the smallest and the largest spread that neighbours leave to a band."""
        low, high = self.min_spread, 1.0
        if band + 1 < len(self.targets):
            low = max(low, _LEAST_RATIO * self.spreads[band + 1][source])
        if band > 0:
            high = min(high, self.spreads[band - 1][source] / _LEAST_RATIO)
        return min(low, 1.0), max(high, self.min_spread)

    def note(
        self, measured: Sequence[Sequence[float]], banked: Sequence[Sequence[float]], *, has_learned: bool
    ) -> None:
        """Take note of how hard the bands are.

        :param measured: for each band and source the median percentile of new candidates, NaN where it could not be
            measured
        :param banked: the same of what is in the bank, which is what training draws; where it is NaN, that of new
            candidates takes its place
        :param has_learned: whether the model can tell what is hard
        """
        self.num_measured += has_learned
        self.percentiles = [
            [new if math.isnan(held) else held for new, held in zip(*of_band, strict=True)]
            for of_band in zip(measured, banked, strict=True)
        ]

    def update(
        self,
        measured: Sequence[Sequence[float]],
        generator: Generator,
        *,
        banked: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Move towards the targets.

        :param measured: for each band and source the median percentile of new candidates, NaN where it could not be
            measured
        :param generator: the generator, which is made harder or easier where the spread has come to its limit
        :param banked: the same of what is in the bank, None where it is not known
        """
        self.num_updates += 1
        self.note(measured, measured if banked is None else banked, has_learned=True)
        if banked is not None:
            self._learn_ageing(measured, banked)
        # the hardest first, so that easier ones find room above it
        for band in reversed(range(len(self.targets))):
            for source, value in enumerate(measured[band]):
                if not math.isnan(value):
                    target = self.targets[band] / self.ageing[band][source]
                    self._move(band, source, target / max(value, 1e-3), generator)

    def renew(self, num_rows: int, *, total: int) -> None:
        """Note that a part of the bank was made anew, as hard as candidates are at present.

        :param num_rows: the number of rows that were written
        :param total: the number of rows that there are
        """
        if num_rows > 0:
            self.num_written = min(total, self.num_written + num_rows)
            self.renewed = 1 - (1 - self.renewed) * (1 - min(1.0, num_rows / self.num_written))

    def _learn_ageing(self, measured: Sequence[Sequence[float]], banked: Sequence[Sequence[float]]) -> None:
        """Learn how much easier what training draws is than it was when it was made: a mean that fades."""
        weight = max(_LEAST_WEIGHT, 1 / self.num_updates)
        for band, of_band in enumerate(banked):
            for source, held in enumerate(of_band):
                if math.isnan(new := measured[band][source]) or math.isnan(held):
                    continue
                new, made = max(new, 1e-3), self.made[band][source]
                made = new if math.isnan(made) else made * (new / made) ** self.renewed
                age = min(max(held / made, 1 / _MAX_AGEING), _MAX_AGEING)
                self.ageing[band][source] *= (age / self.ageing[band][source]) ** weight
                self.made[band][source] = made
        self.renewed = 0.0

    def _move(self, band: int, source: int, ratio: float, generator: Generator) -> None:
        """Move one band.

        :param band: the band
        :param source: the source
        :param ratio: the target in relation to the measurement, below 1 for what is to become harder
        :param generator: the generator
        """
        if 1 / self.tolerance < ratio < self.tolerance:
            return
        low, high = self._room(band, source)
        current = self.spreads[band][source]
        wanted = min(max(high, low), max(low, current * ratio**self.gain))
        if math.isclose(wanted, current):
            generator.adjust_hardness(band, source, harder=ratio < 1)
        self.spreads[band][source] = wanted

    def state_dict(self) -> dict[str, Any]:
        """Tell the spreads, and what was measured."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where others were.

        :param state: what :meth:`state_dict` told
        """
        for name, value in copy.deepcopy(dict(state)).items():
            setattr(self, name, value)

    def unheld(self, *, tolerance: float = 1 / 3) -> list[tuple[int, int]]:
        """Tell which bands are off their targets.

        :param tolerance: the largest distance from the target, as a part of it

        :returns: pairs of band and source
        """
        return [
            (band, source)
            for band, (target, of_band) in enumerate(zip(self.targets, self.percentiles, strict=True))
            for source, value in enumerate(of_band)
            if abs(value - target) > tolerance * target
        ]
