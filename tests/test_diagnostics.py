"""What the diagnostics say about negatives, against Python sets."""

from __future__ import annotations

import math
import pathlib
import statistics

import pytest
import torch
from pykeen.datasets import Nations
from pykeen.models import DistMult
from pykeen.sampling import BasicNegativeSampler

from pykeen_dans.graph import HEAD, TAIL
from pykeen_dans.inspection.diagnostics import as_trained, describe_negatives
from pykeen_dans.sampling import DiffusionAdaptiveNegativeSampler
from pykeen_dans.utils.randomness import reproducible

NUM_POSITIVES = 100


@pytest.fixture
def dataset() -> Nations:
    return Nations(create_inverse_triples=True)


@pytest.fixture
def training(dataset: Nations) -> torch.Tensor:
    return as_trained(dataset.training)


@pytest.fixture
def held_out(dataset: Nations) -> torch.Tensor:
    both = torch.cat([dataset.validation.mapped_triples, dataset.testing.mapped_triples])
    return as_trained(dataset.training, both)


def _sampler(dataset: Nations, training: torch.Tensor, **kwargs) -> DiffusionAdaptiveNegativeSampler:
    options = {
        "num_negs_per_pos": 8,
        "num_slots": 4,
        "fit_steps": 1,
        "reference_kwargs": {"kind": "random", "dim": 8},
        "generator_kwargs": {"difficulty": "constant", "hidden_dim": 8, "num_types": 2},
        "targets": (0.45, 0.2),
        "random_state": 0,
        **kwargs,
    }
    return DiffusionAdaptiveNegativeSampler(
        mapped_triples=training,
        num_entities=dataset.num_entities,
        num_relations=dataset.training.num_relations,
        **options,
    )


@pytest.fixture
def sampler(dataset: Nations, training: torch.Tensor, isolated_cache) -> DiffusionAdaptiveNegativeSampler:
    return _sampler(dataset, training)


def _set(triples: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(triple) for triple in triples.tolist()}


def _share(triples: torch.Tensor, truth: torch.Tensor) -> float:
    true = _set(truth)
    return statistics.fmean(tuple(triple) in true for triple in triples.tolist())


def test_as_trained(dataset: Nations):
    expected = {(h, 2 * r, t) for h, r, t in dataset.training.mapped_triples.tolist()}
    expected |= {(t, 2 * r + 1, h) for h, r, t in dataset.training.mapped_triples.tolist()}
    assert _set(as_trained(dataset.training)) == expected
    plain = Nations(create_inverse_triples=False).training
    assert as_trained(plain) is plain.mapped_triples
    # these are the triples that PyKEEN trains on
    instances = dataset.training._add_inverse_triples_if_necessary(dataset.training.mapped_triples)
    assert _set(instances) == expected


@pytest.mark.parametrize("scheme", [("tail",), ("head", "tail")])
@pytest.mark.parametrize("filtered", [False, True])
def test_drawn(
    dataset: Nations, training: torch.Tensor, held_out: torch.Tensor, scheme: tuple[str, ...], filtered: bool
):
    sampler = BasicNegativeSampler(
        mapped_triples=training,
        num_entities=dataset.num_entities,
        num_relations=dataset.training.num_relations,
        num_negs_per_pos=5,
        corruption_scheme=scheme,
        filtered=filtered,
        filterer="exact" if filtered else None,
    )
    report = describe_negatives(
        sampler, mapped_triples=training, held_out=held_out, num_positives=NUM_POSITIVES, seed=3
    )
    positives = training[torch.randperm(len(training), generator=torch.Generator().manual_seed(3))[:NUM_POSITIVES]]
    with reproducible(3):
        negatives, mask = sampler.sample(positives)
    negatives = negatives.view(-1, 3) if mask is None else negatives[mask]
    assert report.drawn.count == len(negatives)
    assert report.drawn.known == pytest.approx(_share(negatives, training))
    assert (report.drawn.known == 0) == filtered
    assert report.drawn.held_out == pytest.approx(_share(negatives, held_out))
    assert math.isnan(report.drawn.hardness)
    assert report.bands == ()
    assert report.from_bank == 0


@pytest.mark.parametrize("known_answers", ["compete", "mask"])
@pytest.mark.parametrize("memory", [256.0, 2e-3])
def test_bands(
    dataset: Nations,
    training: torch.Tensor,
    held_out: torch.Tensor,
    memory: float,
    known_answers: str,
    isolated_cache: pathlib.Path,
):
    sampler = _sampler(dataset, training, memory=memory, known_answers=known_answers)
    engine = sampler.engine
    assert engine.bank.shared == (memory < 1)
    report = describe_negatives(
        sampler, mapped_triples=training, held_out=held_out, num_positives=NUM_POSITIVES, seed=3
    )
    positives = training[torch.randperm(len(training), generator=torch.Generator().manual_seed(3))[:NUM_POSITIVES]]
    known = _set(training)
    assert report.targets == (0.45, 0.2)
    assert len(report.bands) == engine.num_bands == 2
    for band, found in enumerate(report.bands):
        triples, entities = [], []
        for positive in positives.tolist():
            head, relation, tail = positive
            for side, kept in ((HEAD, tail), (TAIL, head)):
                query = engine.index.find(torch.tensor([kept]), torch.tensor([relation]), side)
                for entity in engine.bank.ids[engine.bank.rows(query)[0], band].flatten().tolist():
                    triple = [entity, relation, tail] if side == HEAD else [head, relation, entity]
                    # what is drawn is never the positive itself, and no known answer where these are masked
                    masked = known_answers == "mask" and tuple(triple) in known
                    if entity >= 0 and triple != positive and not masked:
                        triples.append(triple)
                        entities.append(entity)
        assert found.count == len(triples)
        assert found.known == pytest.approx(_share(torch.tensor(triples), training))
        assert (found.known == 0) == (known_answers == "mask")
        assert found.held_out == pytest.approx(_share(torch.tensor(triples), held_out))
        assert found.diversity == pytest.approx(len(set(entities)) / dataset.num_entities)


@pytest.mark.parametrize("generator", ["two-way-gan", "prior"])
def test_bands_of_several_sources(dataset: Nations, training: torch.Tensor, generator: str, isolated_cache):
    """What all sources have made for a band is described together."""
    sampler = _sampler(dataset, training, generator=generator, generator_kwargs={}, known_answers="mask")
    assert sampler.engine.sources == ("entity", "relation")
    report = describe_negatives(sampler, mapped_triples=training, num_positives=NUM_POSITIVES)
    assert len(report.bands) == 2
    for band in report.bands:
        # two sides of each positive, and 4 ids of each source, some of which are missing
        assert NUM_POSITIVES * 2 * 4 < band.count <= NUM_POSITIVES * 2 * 8
        assert band.known == 0


def test_control_has_no_bands(dataset: Nations, training: torch.Tensor, isolated_cache):
    """Where nothing is generated, there are uniform negatives and nothing else to describe."""
    sampler = _sampler(dataset, training, generator="uniform", generator_kwargs={})
    report = describe_negatives(sampler, mapped_triples=training, num_positives=NUM_POSITIVES)
    assert report.bands == ()
    assert report.from_bank == 0
    assert report.drawn.count == NUM_POSITIVES * 8


def test_from_bank_and_no_trace(sampler: DiffusionAdaptiveNegativeSampler, training: torch.Tensor):
    sampler.sample(training[:10])
    seen = sampler.seen.totals()
    state = torch.random.get_rng_state()
    report = describe_negatives(sampler, mapped_triples=training, num_positives=NUM_POSITIVES)
    wanted = sampler.share
    # the positive itself is among what was generated, and is not drawn
    assert 0 < report.from_bank < wanted
    assert math.isnan(report.drawn.held_out)
    assert sampler.seen.totals() == seen
    assert torch.equal(torch.random.get_rng_state(), state)
    counts = sampler.engine.take_counts()
    assert counts["generated"] + counts["fallback"] * 10 * 2 == pytest.approx(10 * 8 * wanted, abs=1)


def test_hardness(dataset: Nations, sampler: DiffusionAdaptiveNegativeSampler, training: torch.Tensor):
    model = DistMult(triples_factory=dataset.training, embedding_dim=4, random_seed=0)
    report = describe_negatives(sampler, mapped_triples=training, model=model, num_positives=20, seed=5)
    assert len(report.drawn.percentiles) == report.drawn.count == 160
    assert report.drawn.percentiles.min() >= 0
    assert report.drawn.percentiles.max() <= 1


def test_bad_input(sampler: DiffusionAdaptiveNegativeSampler, training: torch.Tensor):
    with pytest.raises(ValueError, match="num_positives=0"):
        describe_negatives(sampler, mapped_triples=training, num_positives=0)
    with pytest.raises(ValueError, match="mapped_triples is empty"):
        describe_negatives(sampler, mapped_triples=training[:0])
