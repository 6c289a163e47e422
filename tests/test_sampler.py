"""The samplers in PyKEEN: PyKEEN's own checks of all of them, and what the options that they share promise."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from pykeen.models import TransE
from pykeen.sampling import negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop

from pykeen_dans.engine import coupling
from pykeen_dans.generators import DiffusionGenerator
from pykeen_dans.sampling import (
    DiffusionAdaptiveNegativeSampler,
    GeneratedNegativeSampler,
    HierarchicalNegativeSampler,
    TwoWayGANNegativeSampler,
)

from .utils import batch_of, check_negatives, from_bank, is_training, make_sampler, replaced, small, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

DATASETS = ("nations", "umls")
FILTERERS = ("exact", "python-set", "bloom")

every_sampler = pytest.mark.parametrize("sampler", ["dans_kgc", "dans", "dhns"])


# PyKEEN's checks of samplers (NegativeSamplerGenericTestCase in its tests)


@every_sampler
@pytest.mark.parametrize("num_negs_per_pos", [1, 5])
@pytest.mark.parametrize("dataset", DATASETS)
def test_sample(sampler: str, dataset: str, num_negs_per_pos: int) -> None:
    """Negatives have the right shape and valid ids, and nothing is masked unless it is asked for."""
    positives = batch_of(dataset)
    copy = positives.clone()
    negatives, mask = make_sampler(dataset, sampler, num_negs_per_pos=num_negs_per_pos).sample(positives)
    assert negatives.shape == (len(positives), num_negs_per_pos, 3)
    assert mask is None
    check_negatives(negatives, positives, dataset)
    assert torch.equal(positives, copy)


def test_default_number_of_negatives() -> None:
    """Without a number, there is one negative for each positive, as in PyKEEN's own samplers."""
    assert make_sampler(num_negs_per_pos=None).sample(batch_of("umls"))[0].shape == (64, 1, 3)


@every_sampler
@pytest.mark.parametrize("filterer", [None, *FILTERERS])
@pytest.mark.parametrize("dataset", DATASETS)
def test_filtered(sampler: str, dataset: str, filterer: str | None) -> None:
    """The mask of each filterer lets no training triple through, and the exact ones let all others through."""
    positives = batch_of(dataset, size=128)
    made = make_sampler(dataset, sampler, num_negs_per_pos=10, filtered=True, filterer=filterer)
    negatives, mask = made.sample(positives)
    assert mask is not None
    assert mask.shape == negatives.shape[:-1]
    assert mask.dtype == torch.bool
    known = is_training(negatives, dataset)
    assert known.any(), "there is something to filter"
    assert not (mask & known).any()
    if filterer in {"exact", "python-set"}:
        assert torch.equal(mask, ~known)


@every_sampler
@pytest.mark.parametrize("dataset", DATASETS)
def test_small_batch(sampler: str, dataset: str) -> None:
    """The last batch of an epoch may be smaller, and the next one is large again."""
    made = make_sampler(dataset, sampler, num_negs_per_pos=3)
    for size in (16, 1, 0, 32):
        positives = batch_of(dataset, size=size)
        negatives, _ = made.sample(positives)
        assert negatives.shape == (size, 3, 3)
        check_negatives(negatives, positives, dataset)


@every_sampler
@pytest.mark.parametrize("batch_dims", [(), (5,), (2, 3), (2, 3, 4)])
def test_batch_dims(sampler: str, batch_dims: tuple[int, ...]) -> None:
    """Any number of batch dimensions is supported."""
    count = torch.Size(batch_dims).numel()
    positives = batch_of("umls", size=count).view(*batch_dims, 3)
    negatives = make_sampler(sampler=sampler, num_negs_per_pos=4).corrupt_batch(positives)
    assert negatives.shape == (*batch_dims, 4, 3)
    check_negatives(negatives, positives, "umls")


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (DiffusionAdaptiveNegativeSampler, ("dans_kgc", "dans-kgc", "diffusionadaptive")),
        (TwoWayGANNegativeSampler, ("dans", "DANS", "twowaygan", "two-way-gan")),
        (HierarchicalNegativeSampler, ("dhns", "DHNS", "hierarchical")),
    ],
)
def test_by_name(cls: type[GeneratedNegativeSampler], names: tuple[str, ...]) -> None:
    """PyKEEN makes the sampler by each of its names."""
    factory = training_of("nations")
    for name in (*names, cls.__name__):
        sampler = negative_sampler_resolver.make(name, small(names[0]), mapped_triples=factory.mapped_triples)
        assert type(sampler) is cls
        assert (sampler.num_entities, sampler.num_relations) == (factory.num_entities, factory.num_relations)


# Generated negatives


@pytest.mark.parametrize(
    ("num_negs_per_pos", "share"), [(1, 0.25), (1, 0.6), (1, 1.0), (3, 0.5), (8, 0.25), (8, 0.3), (32, 0.9)]
)
def test_share(num_negs_per_pos: int, share: float) -> None:
    """The share of generated negatives is what was asked for, on average, whether or not it is a whole number."""
    sampler = make_sampler(num_negs_per_pos=num_negs_per_pos, share=share)
    bank = sampler.engine.bank
    bank.ids.fill_(7)
    sampler.engine.take_counts()
    torch.manual_seed(1)
    positives = training_of("umls").mapped_triples
    negatives = sampler.corrupt_batch(positives)
    entities = replaced(negatives, positives)
    # where it is the positive itself it is not drawn
    itself = (positives[:, [0, 2]] == 7).float().mean().item()
    measured = (entities == 7).float().mean().item()
    assert measured == pytest.approx(share * (1 - itself) + (1 - share) / sampler.num_entities, abs=0.02)
    counts = sampler.engine.take_counts()
    assert counts["fallback"] == pytest.approx(itself, abs=0.03)
    assert counts["generated"] == pytest.approx(share * entities.numel() * (1 - counts["fallback"]), rel=0.05)


def test_no_share_is_uniform() -> None:
    """Without a share the bank is not read, and all other entities are equally likely."""
    sampler = make_sampler(num_negs_per_pos=4, share=0.0, random_state=11)
    sampler.engine.bank.ids.fill_(7)
    torch.manual_seed(0)
    positives = training_of("umls").mapped_triples[:1].expand(20_000, 3)
    negatives = sampler.corrupt_batch(positives)
    assert sampler.engine.take_counts() == {"generated": 0, "fallback": 0}
    for column in (0, 2):
        chosen = negatives[..., column]
        count = torch.bincount(chosen[chosen != positives[0, column]], minlength=sampler.num_entities).float()
        assert count[positives[0, column]] == 0
        expected = 40_000 / (sampler.num_entities - 1)
        # the standard deviation of each count is about 17
        assert (count[torch.arange(len(count)) != positives[0, column]] - expected).abs().max() < 5.5 * expected**0.5


@pytest.mark.parametrize("scheme", [("head",), ("tail",), ("head", "tail"), ("tail", "head"), None])
@pytest.mark.parametrize("num_negs_per_pos", [1, 4])
def test_corruption_scheme(scheme: tuple[str, ...] | None, num_negs_per_pos: int) -> None:
    """Only the sides that are named are corrupted, and both equally often."""
    sampler = make_sampler(num_negs_per_pos=num_negs_per_pos, corruption_scheme=scheme, share=0.5)
    positives = batch_of("umls", size=256)
    negatives, generated = from_bank(sampler, positives)
    check_negatives(negatives, positives, "umls")
    heads = negatives[..., 0] != positives[:, None, 0]
    expected = {("head",): 1.0, ("tail",): 0.0}.get(scheme or (), 0.5)
    assert heads.float().mean() == expected
    assert generated.any()
    if expected == 0.5:
        assert generated[heads].any() and generated[~heads].any()


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_band_weights(progress: float) -> None:
    """Bands are drawn with the weights that the curriculum has at this point of training."""
    sampler = make_sampler(num_negs_per_pos=4, horizon=10, curriculum_kwargs={"kappa": 1.0}, share=1.0)
    # an entity's id tells which band it is from
    ids = sampler.engine.bank.ids
    ids.copy_(torch.arange(4, dtype=torch.int32)[None, :, None, None].expand_as(ids))
    sampler.seen.reset(int(progress * 10 * sampler.num_triples))
    weights = torch.tensor(sampler.state.band_weights)
    assert sampler.state.hardness == pytest.approx({0.0: 0.17, 0.5: 0.5, 1.0: 0.83}[progress], abs=0.01)
    torch.manual_seed(2)
    positives = training_of("umls").mapped_triples
    # those of low ids could not be told from the positives' own entities
    positives = positives[(positives[:, [0, 2]] > 3).all(dim=1)]
    band = replaced(sampler.corrupt_batch(positives), positives)
    measured = torch.bincount(band.flatten(), minlength=4).float() / band.numel()
    torch.testing.assert_close(measured, weights, atol=0.02, rtol=0)


def test_all_slots_are_used() -> None:
    """No slot of the bank is read much less often than the others, so that nothing is generated in vain."""
    sampler = make_sampler(num_negs_per_pos=4, curriculum="constant", share=1.0)
    ids = sampler.engine.bank.ids
    ids.copy_(torch.arange(ids[0].numel(), dtype=torch.int32).view_as(ids[0]).expand_as(ids))
    torch.manual_seed(3)
    positives = training_of("umls").mapped_triples
    positives = positives[(positives[:, [0, 2]] >= ids[0].numel()).all(dim=1)]
    slot = torch.cat([replaced(sampler.corrupt_batch(positives), positives) for _ in range(4)])
    count = torch.bincount(slot.flatten(), minlength=ids[0].numel()).float()
    # each slot has the same chance, and counts vary by about 3 %
    assert count.min() > 0.85 * count.mean()
    assert count.max() < 1.15 * count.mean()


@pytest.mark.parametrize(
    ("curriculum", "kwargs"),
    [("linear", dict(kappa=8.0)), ("exponential", dict(rate=9.0)), ("constant", {}), ("reversed", {})],
)
def test_share_does_not_depend_on_the_curriculum(curriculum: str, kwargs: dict[str, Any]) -> None:
    """From the first to the last epoch, and beyond it, the share is the same."""
    sampler = make_sampler(num_negs_per_pos=8, share=0.375, curriculum=curriculum, curriculum_kwargs=kwargs, horizon=4)
    positives = batch_of("umls", 400)
    hardness = set()
    for epoch in range(6):
        sampler.seen.reset(epoch * sampler.num_triples)
        assert sampler.num_generated == 3
        hardness.add(round(sampler.state.hardness, 6))
        sampler.engine.take_counts()
        sampler.corrupt_batch(positives)
        counts = sampler.engine.take_counts()
        assert counts["generated"] / (1 - counts["fallback"]) == pytest.approx(3 * 400)
    assert len(hardness) == (1 if curriculum == "constant" else 5)


def test_distinct_negatives_of_a_positive() -> None:
    """The generated negatives of one positive differ from each other while there are enough in the bank."""
    sampler = make_sampler(num_negs_per_pos=8, num_slots=16, share=1.0, random_state=5)
    positives = batch_of("umls", size=512)
    negatives = sampler.corrupt_batch(positives)
    distinct = [len(set(map(tuple, row))) for row in negatives.tolist()]
    assert sum(distinct) / len(distinct) > 7


# Randomness and progress


@every_sampler
def test_same_seed_same_negatives(sampler: str) -> None:
    """A seed determines the bank and the negatives; another one gives others."""
    positives = batch_of("umls")
    results = []
    for random_state in (0, 0, 1):
        coupling._alone.clear()
        made = make_sampler(sampler=sampler, num_negs_per_pos=8, random_state=random_state)
        torch.manual_seed(4)
        results.append((made.engine.bank.ids.clone(), made.corrupt_batch(positives)))
    (ids, negatives), (same_ids, same_negatives), (other_ids, other_negatives) = results
    assert torch.equal(ids, same_ids)
    assert torch.equal(negatives, same_negatives)
    assert not torch.equal(ids, other_ids)
    assert not torch.equal(negatives, other_negatives)


def test_seed_of_torch() -> None:
    """Without a random state, the seed that torch was given determines what is generated."""
    banks = []
    for seed in (5, 5, 6):
        coupling._alone.clear()
        torch.manual_seed(seed)
        banks.append(make_sampler(random_state=None).engine.bank.ids)
    assert torch.equal(banks[0], banks[1])
    assert not torch.equal(banks[0], banks[2])


@every_sampler
def test_making_a_sampler_leaves_the_random_state_alone(sampler: str) -> None:
    """Whatever is prepared, the global generator goes on as if nothing had happened, so that trainings compare."""
    coupling._alone.clear()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    make_sampler(sampler=sampler, random_state=123)
    assert torch.equal(torch.get_rng_state(), before)


def test_equal_samplers_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyKEEN makes samplers again and again, but a generator is trained once."""
    coupling._alone.clear()
    fits = []
    fit = DiffusionGenerator.fit

    def counting(self: DiffusionGenerator, **kwargs: Any) -> Any:
        fits.append(self)
        return fit(self, **kwargs)

    monkeypatch.setattr(DiffusionGenerator, "fit", counting)
    first = make_sampler(num_negs_per_pos=1)
    second = make_sampler(num_negs_per_pos=2, share=0.5, curriculum="reversed")
    assert len(fits) == 1
    assert first.engine is second.engine
    assert make_sampler(generator_kwargs=dict(hidden_dim=32)).engine is not first.engine
    assert len(fits) == 2


@every_sampler
def test_progress_alone(sampler: str) -> None:
    """A sampler without a callback counts epochs by itself, goes on to the end of its horizon, and stays there."""
    made = make_sampler("nations", sampler, targets=(0.45, 0.2), horizon=4)
    triples = training_of("nations").mapped_triples
    hardness = []
    for _ in range(6):
        hardness.append(made.state.hardness)
        for batch in triples.split(256):
            made.sample(batch)
    assert all(a < b for a, b in itertools.pairwise(hardness[:5]))
    assert hardness[4] == hardness[5]
    assert hardness[0] == pytest.approx(made.curriculum(0.0, num_bands=2).hardness)
    assert hardness[4] == pytest.approx(made.curriculum(1.0, num_bands=2).hardness)


def test_progress_alone_in_workers() -> None:
    """Worker processes advance the progress of the sampler in the main process."""
    factory = training_of("nations")
    sampler = make_sampler("nations", horizon=4)
    model = TransE(triples_factory=factory, embedding_dim=4, random_seed=0)
    loop = SLCWATrainingLoop(model=model, triples_factory=factory, negative_sampler=sampler)
    loop.train(factory, num_epochs=2, batch_size=128, num_workers=2, use_tqdm=False, pin_memory=False)
    # PyKEEN has looked at two batches before, to find out whether they fit into memory
    assert sampler.seen.totals() == [2 * factory.num_triples + 2 * 128]
