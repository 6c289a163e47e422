"""What training draws for some positives, and what it could draw, in parts of one source and side each.

Everything here only reads: whoever was looked at draws the same negatives afterwards as it would have drawn before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
from pykeen.sampling import NegativeSampler
from pykeen.typing import LABEL_HEAD, BoolTensor, FloatTensor, LongTensor, MappedTriples

from ..graph import HEAD, TAIL
from ..sampling import FixedNegativeSampler, GeneratedNegativeSampler
from ..scoring.strata import weigh_candidates
from ..training.shared_negatives import SharedNegativesTrainingLoop
from ..utils.processes import SharedCounts
from ..utils.randomness import reproducible
from .subject import Subject

__all__ = [
    "RELATION",
    "Part",
    "fill",
    "parts_in_store",
    "parts_of_training",
    "unnoticed",
]

#: The third side, which some of PyKEEN's samplers replace
RELATION = 2
_COLUMN = {HEAD: 0, TAIL: 2, RELATION: 1}
#: The number of positives that share a pool
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Part:
    """Some negatives of positives, of one source and side.

    :param source: where they come from
    :param side: the side that is replaced
    :param ids: shape: (n, k) entities for each of n positives, -1 for none
    :param band: the band of hardness, None for all bands together
    :param wanted: the number of draws that was asked for
    :param share: the share that they have of all that training draws
    :param target: the target rank percentile of the band
    :param vectors: shape: (n, k, ...) where they are vectors of no entity, in which case there are no ids
    """

    source: str
    side: int
    ids: LongTensor
    band: int | None = None
    wanted: int = 0
    share: float = 0.0
    target: float = math.nan
    vectors: FloatTensor | None = None

    @property
    def count(self) -> int:
        """The number of negatives."""
        return int((self.ids >= 0).sum()) if self.vectors is None else self.vectors.shape[0] * self.vectors.shape[1]


def fill(positives: MappedTriples, side: int, ids: LongTensor) -> MappedTriples:
    """Put ids into positives.

    :param positives: shape: (n, 3)
    :param side: the side to fill
    :param ids: shape: (n, k)

    :returns: shape: (n, k, 3)
    """
    triples = positives[:, None, :].repeat(1, ids.shape[1], 1)
    triples[..., _COLUMN[side]] = ids
    return triples


@contextlib.contextmanager
def unnoticed(subject: Subject, seed: int) -> Iterator[None]:
    """Draw by a seed, and leave no trace in what a sampler or a loop counts, remembers, or draws next.

    :param subject: what is looked at
    :param seed: the seed

    :yields: nothing
    """
    loop, sampler = subject.loop, subject.sampler
    devices = [] if loop is None or loop.device.type != "cuda" else [loop.device]
    batch = None if loop is None else loop._batch
    counters: list[SharedCounts] = []
    random = None
    if isinstance(sampler, GeneratedNegativeSampler):
        counters, random = [sampler.seen, sampler.engine.counts], sampler.engine.random
    before, state = [counter.totals() for counter in counters], None if random is None else random.get_state()
    try:
        with torch.random.fork_rng(devices=devices), reproducible(seed), torch.no_grad():
            yield
    finally:
        for counter, value in zip(counters, before, strict=True):
            counter.reset(*value)
        if random is not None and state is not None:
            random.set_state(state)
        if loop is not None:
            loop._batch = batch


def parts_of_training(subject: Subject, positives: MappedTriples) -> list[Part]:
    """Draw what training draws for positives.

    :param subject: what is looked at
    :param positives: shape: (n, 3) in the ids of training

    :returns: the parts, whose shares sum to one
    """
    if subject.loop is not None:
        parts = _shared(subject.loop, positives)
    else:
        assert subject.sampler is not None
        parts = _sampled(subject.sampler, positives)
    total = max(1, sum(part.count for part in parts))
    return [dataclasses.replace(part, share=part.count / total) for part in parts]


def _sampled(sampler: NegativeSampler, positives: MappedTriples) -> list[Part]:
    """Draw by a sampler."""
    chosen: BoolTensor | None = None
    wanted = 0
    if isinstance(sampler, GeneratedNegativeSampler | FixedNegativeSampler):
        if isinstance(sampler, GeneratedNegativeSampler):
            sampler.engine.take_counts()
        negatives, chosen = sampler.corrupt_and_tell(positives)
        wanted = sampler.engine.counts.totals()[0] if isinstance(sampler, GeneratedNegativeSampler) else 0
        mask = None if sampler.filterer is None else sampler.filterer(negative_batch=negatives)
        names = ("uniform", "fixed" if isinstance(sampler, FixedNegativeSampler) else "generated")
    else:
        negatives, mask = sampler.sample(positives)
        names = (sampler.get_normalized_name(), "")
    told = torch.zeros(negatives.shape[:-1], dtype=torch.bool)
    if chosen is not None:
        told[:, : chosen.shape[1]] = chosen
    # what differs in nothing, as some of PyKEEN's samplers allow, counts as a tail
    differs = negatives != positives[:, None]
    sides = torch.where(differs[..., 0], HEAD, torch.where(differs[..., 1], RELATION, TAIL))
    parts = []
    for name, of_source in zip(names, (~told, told), strict=True):
        # what the bank was asked for, of which a part stayed uniform
        asked = wanted if name == "generated" else int(of_source.sum())
        for side, column in _COLUMN.items():
            present = of_source & (sides == side)
            if present.any():
                kept = present if mask is None else present & mask
                ids = torch.where(kept, negatives[..., column], -1)
                parts.append(Part(name, side, ids, wanted=asked))
                asked = 0
    return parts


def _shared(loop: SharedNegativesTrainingLoop, positives: MappedTriples) -> list[Part]:
    """Draw by a loop whose negatives are shared."""
    found: dict[tuple[str, int], list[Any]] = {}
    for some in positives.split(_BATCH):
        batch: Any = {"positives": some}
        shared = loop._share(batch)
        for name, pool in shared.pools.items():
            side = HEAD if name == LABEL_HEAD else TAIL
            own, vectors = shared.own[name], shared.vectors[name]
            weights = weigh_candidates(shared.positives[:, _COLUMN[side]], pool, own)
            ids = pool.ids.expand(len(some), -1).masked_fill(weights.shared_mask, -1)
            found.setdefault(("shared", side), []).append(ids.cpu())
            if own is not None and weights.own_mask is not None:
                found.setdefault(("own", side), []).append(own.ids.masked_fill(weights.own_mask, -1).cpu())
            if vectors is not None:
                found.setdefault(("vectors", side), []).append(vectors[0].cpu())
    parts = []
    for (source, side), chunks in sorted(
        found.items(), key=lambda item: ("shared", "own", "vectors").index(item[0][0])
    ):
        together = torch.cat(chunks)
        wanted = together.shape[0] * together.shape[1]
        if source == "vectors":
            none = torch.empty(len(together), 0, dtype=torch.long)
            parts.append(Part(source, side, none, wanted=wanted, vectors=together))
        else:
            parts.append(Part(source, side, together, wanted=wanted))
    return parts


def parts_in_store(subject: Subject, positives: MappedTriples, drawn: list[Part]) -> list[Part]:
    """List what training draws from: the bank, band by band, or the table of fixed negatives.

    :param subject: what is looked at
    :param positives: shape: (n, 3) in the ids of training
    :param drawn: what training draws, by which the bands have their shares

    :returns: the parts
    """
    sampler = subject.sampler
    if isinstance(sampler, FixedNegativeSampler):
        return [Part("fixed", side, sampler.listed(positives, side)) for side in (HEAD, TAIL)]
    if not isinstance(sampler, GeneratedNegativeSampler) or not sampler.engine.generates:
        return []
    source = "generated" if subject.loop is None else "own"
    share = sum(part.share for part in drawn if part.source == source) / len(sampler.sides)
    return [
        Part(
            source,
            side,
            ids := _bank_ids(sampler, positives, side, band),
            band=band,
            wanted=ids.numel(),
            share=share * sampler.state.band_weights[band],
            target=sampler.engine.settings.targets[band],
        )
        for band in range(sampler.engine.num_bands)
        for side in sampler.sides
    ]


def _bank_ids(sampler: GeneratedNegativeSampler, positives: MappedTriples, side: int, band: int) -> LongTensor:
    """Read what the bank holds for positives.

    :returns: shape: (n, num_ids) the ids of all sources that training may draw, -1 for none
    """
    index, bank = sampler.engine.index, sampler.engine.bank
    query = index.find(positives[:, 2 if side == HEAD else 0], positives[:, 1], side)
    ids: LongTensor = bank.ids[bank.rows(query.clamp(min=0)), band].long().flatten(start_dim=1)
    ids[ids == positives[:, _COLUMN[side], None]] = -1
    if bank.shared and sampler.engine.settings.known_answers == "mask":
        # queries share rows, so that known answers are left out when negatives are drawn
        ids[index.is_answer(query[:, None].expand(ids.shape).contiguous(), ids)] = -1
    ids[query < 0] = -1
    return ids
