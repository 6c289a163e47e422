"""What the negatives of a sampler were, in numbers for pictures and benchmarks; :mod:`.negatives` has them in a table.

Triples are compared by their ids, as training sees them: with inverse triples, relations have other ids there than in
the data set's own triples. :func:`as_trained` translates.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from pykeen.models import Model
from pykeen.sampling import NegativeSampler
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import FloatTensor, MappedTriples

from ..sampling.base import GeneratedNegativeSampler
from ..utils.triples import as_trained
from ..utils.validation import validate_at_least
from .judge import Judge
from .parts import Part, fill, parts_in_store, parts_of_training, unnoticed
from .subject import Subject

__all__ = [
    "NegativeStatistics",
    "NegativesReport",
    "as_trained",
    "describe_negatives",
]


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


def _statistics(judge: Judge, positives: MappedTriples, parts: list[Part]) -> NegativeStatistics:
    """Sum up some parts."""
    triples = torch.cat([fill(positives, part.side, part.ids)[part.ids >= 0] for part in parts])
    entities = torch.cat([part.ids[part.ids >= 0] for part in parts])
    percentiles = torch.cat([judge.percentiles(positives, part).flatten() for part in parts])
    count = len(triples)
    return NegativeStatistics(
        count=count,
        known=judge.known.contains(triples).float().mean().item() if count else 0.0,
        held_out=judge.truth["held_out"].contains(triples).float().mean().item() if judge.truth and count else math.nan,
        diversity=len(entities.unique()) / max(1, min(count, judge.num_entities)),
        percentiles=percentiles[~percentiles.isnan()],
    )


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
    factory = CoreTriplesFactory(mapped_triples, num_entities=sampler.num_entities, num_relations=sampler.num_relations)
    subject = Subject(factory, sampler=sampler, model=model)
    judge = Judge(
        training=mapped_triples,
        num_entities=sampler.num_entities,
        num_relations=sampler.num_relations,
        truth={} if held_out is None else {"held_out": held_out},
        model=model,
        random=random,
    )
    with unnoticed(subject, seed):
        drawn = parts_of_training(subject, positives)
        stored = parts_in_store(subject, positives, drawn)
        bands: dict[int, list[Part]] = {}
        for part in stored:
            if part.band is not None:
                bands.setdefault(part.band, []).append(part)
        return NegativesReport(
            drawn=_statistics(judge, positives, drawn),
            bands=tuple(_statistics(judge, positives, parts) for parts in bands.values()),
            from_bank=sum(part.share for part in drawn if part.source == "generated"),
            targets=sampler.engine.settings.targets if isinstance(sampler, GeneratedNegativeSampler) else (),
        )
