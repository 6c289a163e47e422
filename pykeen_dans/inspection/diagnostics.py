"""What the negatives were: false, hard, diverse, generated or not, and a look at the ones that did it.

Everything here only reads. A sampler draws the same negatives after it was looked at as it would have drawn before.

Triples are compared by their ids, as training sees them: with inverse triples, relations have other ids there than in
the data set's own triples. :func:`as_trained` translates.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from pykeen.sampling import NegativeSampler
from pykeen.typing import BoolTensor, FloatTensor, LongTensor, MappedTriples

from ..engine.steering import rank_percentiles
from ..graph import HEAD, TAIL, QueryIndex
from ..sampling.base import GeneratedNegativeSampler
from ..sampling.filtering import ExactFilterer
from ..utils.randomness import reproducible
from ..utils.validation import validate_at_least

if TYPE_CHECKING:
    import pandas as pd
    from pykeen.models import Model
    from pykeen.triples import CoreTriplesFactory

__all__ = [
    "NegativeStatistics",
    "NegativesReport",
    "as_trained",
    "describe_negatives",
    "negatives_table",
]

#: The number of positives whose negatives are ranked at once
_CHUNK = 64


@dataclasses.dataclass(frozen=True)
class NegativeStatistics:
    """What a sample of negatives was.

    :param count: the number of negatives
    :param known: the share of them that are training triples
    :param held_out: the share of them that are among the held-out triples, i.e. the false negatives proper; NaN where
        no held-out triples were given
    :param diversity: the number of distinct entities, in relation to the largest possible
    :param percentiles: shape: (count,) the share of entities that the model scores higher than the negative; empty
        where no model was given
    """

    count: int
    known: float
    held_out: float
    diversity: float
    percentiles: FloatTensor

    @property
    def hardness(self) -> float:
        """The median rank percentile, the smaller the harder. NaN where no model was given."""
        return self.percentiles.median().item() if len(self.percentiles) else math.nan


@dataclasses.dataclass(frozen=True)
class NegativesReport:
    """What the negatives of a sampler were.

    :param drawn: the negatives as training gets them, uniform ones included
    :param bands: the generated negatives of each hardness band, the easiest first; empty for a sampler that
        generates none
    :param from_bank: the share of drawn negatives that came from the bank
    :param targets: the target percentile of each band
    """

    drawn: NegativeStatistics
    bands: tuple[NegativeStatistics, ...] = ()
    from_bank: float = 0.0
    targets: tuple[float, ...] = ()


def as_trained(factory: CoreTriplesFactory, mapped_triples: MappedTriples | None = None) -> MappedTriples:
    """Translate triples into the ids by which a training on a factory knows them.

    :param factory: the training triples factory
    :param mapped_triples: shape: (n, 3) triples of the data set, default: the training triples

    :returns: shape: (n, 3), or (2 n, 3) where the factory creates inverse triples
    """
    triples = factory.mapped_triples if mapped_triples is None else mapped_triples
    if not factory.create_inverse_triples:
        return triples
    inverter = factory.relation_inverter
    return torch.cat([inverter.map(batch=triples), inverter.map(batch=triples, invert=True).flip(1)])


class _Judge:
    """Tells of negatives whether they are true, and how hard they are."""

    def __init__(
        self,
        sampler: NegativeSampler,
        *,
        mapped_triples: MappedTriples,
        held_out: MappedTriples | None,
        model: Model | None,
        random: torch.Generator,
    ) -> None:
        self.num_entities = sampler.num_entities
        self.training = ExactFilterer(mapped_triples)
        self.held_out = None if held_out is None else ExactFilterer(held_out)
        self.model = model
        self.random = random
        self.index: QueryIndex | None = None
        if isinstance(sampler, GeneratedNegativeSampler):
            self.index = sampler.engine.index
        elif model is not None:
            self.index = QueryIndex(
                mapped_triples=mapped_triples, num_entities=sampler.num_entities, num_relations=sampler.num_relations
            )

    def percentiles(self, positives: MappedTriples, side: int, candidates: LongTensor) -> FloatTensor | None:
        """Rank candidates among all entities.

        :param positives: shape: (n, 3)
        :param side: the side that is filled
        :param candidates: shape: (n, k) entities, -1 for none

        :returns: shape: (n, k) NaN where there is no candidate, or where training does not know the query; None if
            there is no model
        """
        if self.model is None or self.index is None:
            return None
        kept, relations = _kept(positives, side), positives[:, 1]
        rows = self.index.find(kept, relations, side)
        result = torch.full(candidates.shape, math.nan)
        for chosen in (rows >= 0).nonzero().view(-1).split(_CHUNK):
            result[chosen] = rank_percentiles(
                model=self.model,
                index=self.index,
                queries=self.index.select(rows[chosen]),
                candidates=candidates[chosen],
                random=self.random,
            )
        return result

    def statistics(
        self, triples: MappedTriples, entities: LongTensor, percentiles: Sequence[FloatTensor | None]
    ) -> NegativeStatistics:
        """Sum up.

        :param triples: shape: (n, 3) negatives
        :param entities: shape: (n,) the entities that were put in
        :param percentiles: their percentiles, in any order, NaN for those that have none

        :returns: the statistics
        """
        count = len(triples)
        values = [value[~value.isnan()] for value in percentiles if value is not None]
        return NegativeStatistics(
            count=count,
            known=_share(self.training.contains(triples)),
            held_out=math.nan if self.held_out is None else _share(self.held_out.contains(triples)),
            diversity=len(entities.unique()) / max(1, min(count, self.num_entities)),
            percentiles=torch.cat(values) if values else torch.empty(0),
        )


def _share(mask: BoolTensor) -> float:
    return mask.float().mean().item() if len(mask) else 0.0


@contextlib.contextmanager
def _unnoticed(sampler: NegativeSampler) -> Iterator[None]:
    """Leave no trace in what a sampler counts."""
    if not isinstance(sampler, GeneratedNegativeSampler):
        yield
        return
    counters = (sampler.seen, sampler.engine.counts)
    before = [counter.totals() for counter in counters]
    try:
        yield
    finally:
        for counter, value in zip(counters, before, strict=True):
            counter.reset(*value)


def _kept(triples: MappedTriples, side: int) -> LongTensor:
    return triples[..., 2 if side == HEAD else 0]


def _fill(positives: MappedTriples, side: int, entities: LongTensor) -> MappedTriples:
    """Put entities into positives.

    :param positives: shape: (n, 3)
    :param side: the side to fill
    :param entities: shape: (n, k)

    :returns: shape: (n, k, 3)
    """
    triples = positives[:, None, :].repeat(1, entities.shape[1], 1)
    triples[..., 0 if side == HEAD else 2] = entities
    return triples


def _num_bands(sampler: GeneratedNegativeSampler) -> int:
    """Tell how many bands there are to look at, none where nothing is generated."""
    return sampler.engine.num_bands if sampler.engine.generates else 0


def _bank_ids(sampler: GeneratedNegativeSampler, positives: MappedTriples, side: int) -> LongTensor:
    """Read what the bank holds for positives.

    :param sampler: the sampler
    :param positives: shape: (n, 3) positives
    :param side: the side to fill

    :returns: shape: (n, num_bands, num_ids) the ids of all sources that training may draw, -1 for none
    """
    index, bank = sampler.engine.index, sampler.engine.bank
    query = index.find(_kept(positives, side), positives[:, 1], side)
    ids = bank.ids[bank.rows(query.clamp(min=0))].long().flatten(start_dim=2)
    ids[ids == positives[:, 0 if side == HEAD else 2, None, None]] = -1
    if bank.shared and sampler.engine.settings.known_answers == "mask":
        # queries share rows, so that known answers are left out when negatives are drawn
        ids[index.is_answer(query[:, None, None].expand(ids.shape).contiguous(), ids)] = -1
    ids[query < 0] = -1
    return ids


@torch.no_grad()
def describe_negatives(
    sampler: NegativeSampler,
    *,
    mapped_triples: MappedTriples,
    held_out: MappedTriples | None = None,
    model: Model | None = None,
    num_positives: int = 512,
    seed: int = 0,
) -> NegativesReport:
    """Draw negatives of a sample of positives, and tell what they were.

    :param sampler: the sampler, of this package or not
    :param mapped_triples: shape: (n, 3) the training triples, see :func:`as_trained`
    :param held_out: shape: (m, 3) other triples that are true, for example those of validation and test, in the same
        ids
    :param model: the model under training, by which hardness is measured, default: it is not measured
    :param num_positives: the size of the sample
    :param seed: the seed of the sample

    :returns: the report

    :raises ValueError: if an argument is invalid
    """
    validate_at_least("num_positives", num_positives, 1)
    if len(mapped_triples) == 0:
        raise ValueError("mapped_triples is empty: pass the training triples, e.g. as_trained(dataset.training).")
    random = torch.Generator().manual_seed(seed)
    positives = mapped_triples[torch.randperm(len(mapped_triples), generator=random)[:num_positives]]
    judge = _Judge(sampler, mapped_triples=mapped_triples, held_out=held_out, model=model, random=random)
    generated = 0
    with _unnoticed(sampler), reproducible(seed):
        if isinstance(sampler, GeneratedNegativeSampler):
            sampler.engine.take_counts()
        negatives, mask = sampler.sample(positives)
        if isinstance(sampler, GeneratedNegativeSampler):
            generated = int(sampler.engine.take_counts()["generated"])
    report = NegativesReport(
        drawn=_describe_drawn(judge, positives, negatives, mask), from_bank=generated / negatives[..., 0].numel()
    )
    if isinstance(sampler, GeneratedNegativeSampler):
        report = dataclasses.replace(
            report, bands=_describe_bands(judge, sampler, positives), targets=sampler.engine.settings.targets
        )
    return report


def _describe_drawn(
    judge: _Judge, positives: MappedTriples, negatives: MappedTriples, mask: BoolTensor | None
) -> NegativeStatistics:
    """Describe negatives, shape: (n, k, 3), as they are drawn."""
    mask = torch.ones(negatives.shape[:-1], dtype=torch.bool) if mask is None else mask
    entities = negatives[..., 2].clone()
    percentiles = []
    for side in (HEAD, TAIL):
        column = 0 if side == HEAD else 2
        changed = (negatives[..., column] != positives[:, None, column]) & mask
        entities[changed] = negatives[..., column][changed]
        if changed.any():
            candidates = torch.where(changed, negatives[..., column], -1)
            percentiles.append(judge.percentiles(positives, side, candidates))
    return judge.statistics(negatives[mask], entities[mask], percentiles)


def _describe_bands(
    judge: _Judge, sampler: GeneratedNegativeSampler, positives: MappedTriples
) -> tuple[NegativeStatistics, ...]:
    """Describe what the bank holds for positives, band by band."""
    bands = []
    for band in range(_num_bands(sampler)):
        triples, entities, percentiles = [], [], []
        for side in sampler.sides:
            ids = _bank_ids(sampler, positives, side)[:, band]
            present = ids >= 0
            triples.append(_fill(positives, side, ids)[present])
            entities.append(ids[present])
            percentiles.append(judge.percentiles(positives, side, ids))
        bands.append(judge.statistics(torch.cat(triples), torch.cat(entities), percentiles))
    return tuple(bands)


@torch.no_grad()
def negatives_table(
    sampler: GeneratedNegativeSampler,
    positives: MappedTriples,
    *,
    entity_labels: Sequence[str] | None = None,
    relation_labels: Sequence[str] | None = None,
    held_out: MappedTriples | None = None,
    model: Model | None = None,
    per_band: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """List generated negatives of some positives: a look at the negatives that did it.

    :param sampler: a sampler of this package
    :param positives: shape: (n, 3) the positives, in the ids of training
    :param entity_labels: the label of each entity id, default: the ids
    :param relation_labels: the label of each relation id, default: the ids
    :param held_out: shape: (m, 3) other triples that are true, in the same ids
    :param model: the model under training, by which hardness is measured, default: it is not measured
    :param per_band: the largest number of negatives for each positive, side and band; random ones of the bank
    :param seed: the seed of the choice

    :returns: one row for each negative, the easiest band first: the positive (``head``, ``relation``, ``tail``), the
        ``side`` that was filled, the ``negative`` entity, its ``band``, its rank ``percentile`` under the model (0 is
        the hardest), and whether it is ``true`` by the held-out triples
    """
    # imported late, since it would add to the time that it takes to import this module
    import pandas as pd

    validate_at_least("per_band", per_band, 1)
    random = torch.Generator().manual_seed(seed)
    judge = _Judge(sampler, mapped_triples=positives, held_out=held_out, model=model, random=random)
    rows = []
    for side in sampler.sides:
        ids = _bank_ids(sampler, positives, side)
        for band in range(_num_bands(sampler)):
            chosen = torch.full((len(positives), per_band), -1)
            for number, row in enumerate(ids[:, band]):
                distinct = row[row >= 0].unique()
                distinct = distinct[torch.randperm(len(distinct), generator=random)[:per_band]]
                chosen[number, : len(distinct)] = distinct
            percentile = judge.percentiles(positives, side, chosen)
            truth = None if judge.held_out is None else judge.held_out.contains(_fill(positives, side, chosen))
            for number, slot in (chosen >= 0).nonzero().tolist():
                head, relation, tail = positives[number].tolist()
                rows.append(
                    {
                        "positive": number,
                        "head": _label(entity_labels, head),
                        "relation": _label(relation_labels, relation),
                        "tail": _label(entity_labels, tail),
                        "side": "head" if side == HEAD else "tail",
                        "negative": _label(entity_labels, int(chosen[number, slot])),
                        "band": band,
                        "percentile": math.nan if percentile is None else percentile[number, slot].item(),
                        "true": None if truth is None else bool(truth[number, slot]),
                    }
                )
    columns = ["positive", "head", "relation", "tail", "side", "negative", "band", "percentile", "true"]
    table = pd.DataFrame(rows, columns=columns).sort_values(["positive", "side", "band"], kind="stable")
    return table.drop(columns="positive").reset_index(drop=True)


def _label(labels: Sequence[str] | None, number: int) -> str:
    return str(number) if labels is None else labels[number]
