"""The samplers in PyKEEN: PyKEEN's own checks of all of them, and what the options of the diffusion sampler promise."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pykeen.models import TransE
from pykeen.sampling import negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop
from torch import Tensor

from pykeen_dans.engine import coupling
from pykeen_dans.generators.diffusion import DiffusionGenerator
from pykeen_dans.graph import TAIL
from pykeen_dans.sampling import (
    DiffusionAdaptiveNegativeSampler,
    GeneratedNegativeSampler,
    TwoWayGANNegativeSampler,
)

from .utils import (
    SMALL,
    SMALL_GAN,
    batch_of,
    check_negatives,
    from_bank,
    is_training,
    make_gan_sampler,
    make_sampler,
    training_of,
)

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

DATASETS = ("nations", "umls")
FILTERERS = ("exact", "python-set", "bloom")

#: Makes a small sampler for a data set
Maker = Callable[..., GeneratedNegativeSampler]
every_sampler = pytest.mark.parametrize("make", [make_sampler, make_gan_sampler], ids=["dans_kgc", "dans"])


# PyKEEN's checks of samplers (NegativeSamplerGenericTestCase in its tests)


@every_sampler
@pytest.mark.parametrize("num_negs_per_pos", [1, 5])
@pytest.mark.parametrize("dataset", DATASETS)
def test_sample(make: Maker, dataset: str, num_negs_per_pos: int) -> None:
    """Negatives have the right shape and valid ids, and nothing is masked unless it is asked for."""
    positives = batch_of(dataset)
    copy = positives.clone()
    negatives, mask = make(dataset, num_negs_per_pos=num_negs_per_pos).sample(positives)
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
def test_filtered(make: Maker, dataset: str, filterer: str | None) -> None:
    """The mask of each filterer lets no training triple through, and the exact ones let all others through."""
    positives = batch_of(dataset, size=128)
    sampler = make(dataset, num_negs_per_pos=10, filtered=True, filterer=filterer)
    negatives, mask = sampler.sample(positives)
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
def test_small_batch(make: Maker, dataset: str) -> None:
    """The last batch of an epoch may be smaller, and the next one is large again."""
    sampler = make(dataset, num_negs_per_pos=3)
    for size in (16, 1, 0, 32):
        positives = batch_of(dataset, size=size)
        negatives, _ = sampler.sample(positives)
        assert negatives.shape == (size, 3, 3)
        check_negatives(negatives, positives, dataset)


@every_sampler
@pytest.mark.parametrize("batch_dims", [(), (5,), (2, 3), (2, 3, 4)])
def test_batch_dims(make: Maker, batch_dims: tuple[int, ...]) -> None:
    """Any number of batch dimensions is supported."""
    count = torch.Size(batch_dims).numel()
    positives = batch_of("umls", size=count).view(*batch_dims, 3)
    negatives = make(num_negs_per_pos=4).corrupt_batch(positives)
    assert negatives.shape == (*batch_dims, 4, 3)
    check_negatives(negatives, positives, "umls")


@pytest.mark.parametrize(
    ("cls", "options", "names"),
    [
        (DiffusionAdaptiveNegativeSampler, SMALL, ("dans_kgc", "dans-kgc", "diffusionadaptive")),
        (TwoWayGANNegativeSampler, SMALL_GAN, ("dans", "DANS", "twowaygan", "two-way-gan")),
    ],
)
def test_by_name(cls: type[GeneratedNegativeSampler], options: dict[str, Any], names: tuple[str, ...]) -> None:
    """PyKEEN makes the sampler by each of its names."""
    factory = training_of("nations")
    for name in (*names, cls.__name__):
        sampler = negative_sampler_resolver.make(name, options, mapped_triples=factory.mapped_triples)
        assert type(sampler) is cls
        assert (sampler.num_entities, sampler.num_relations) == (factory.num_entities, factory.num_relations)


# Generated negatives


@every_sampler
@pytest.mark.parametrize("memory", [256.0, 0.01])
@pytest.mark.parametrize("dataset", DATASETS)
def test_no_generated_negative_is_a_training_triple(make: Maker, dataset: str, memory: float) -> None:
    """What comes from the bank is never a training triple, even when queries share rows for want of memory."""
    sampler = make(dataset, num_negs_per_pos=8, memory=memory, curriculum_kwargs={"share": 1.0})
    bank = sampler.engine.bank
    assert bank.shared == (memory < 1)
    assert bank.ids.nbytes <= memory * 2**20
    positives = training_of(dataset).mapped_triples
    negatives, generated = from_bank(sampler, positives)
    check_negatives(negatives, positives, dataset)
    assert generated.float().mean() > 0.5
    known = is_training(negatives, dataset)
    assert not (known & generated).any()
    if not bank.shared:
        # all others are of queries for which no candidate was found
        empty = (bank.ids < 0).flatten(start_dim=1).any(dim=1)
        rows = _queries_of(sampler, negatives, positives)
        assert empty[rows[known]].all()


def _queries_of(sampler: GeneratedNegativeSampler, negatives: Tensor, positives: Tensor) -> Tensor:
    """Find the query that each negative answers."""
    index = sampler.engine.index
    side = (negatives[..., 2] != positives[:, None, 2]).long()
    kept = torch.where(side == TAIL, positives[:, None, 0], positives[:, None, 2])
    relation = positives[:, None, 1].expand_as(kept)
    return index.find(kept.flatten(), relation.flatten(), side.flatten()).view(kept.shape)


@pytest.mark.parametrize(
    ("num_negs_per_pos", "share"), [(1, 0.25), (1, 0.6), (1, 1.0), (3, 0.5), (8, 0.25), (8, 0.3), (32, 0.9)]
)
def test_share(num_negs_per_pos: int, share: float) -> None:
    """The share of generated negatives is what was asked for, on average, whether or not it is a whole number."""
    sampler = make_sampler(num_negs_per_pos=num_negs_per_pos, curriculum_kwargs={"share": share})
    bank = sampler.engine.bank
    bank.ids.fill_(7)
    sampler.engine.take_counts()
    torch.manual_seed(1)
    positives = training_of("umls").mapped_triples
    negatives = sampler.corrupt_batch(positives)
    replaced = torch.where(negatives[..., 0] != positives[:, None, 0], negatives[..., 0], negatives[..., 2])
    measured = (replaced == 7).float().mean().item()
    assert measured == pytest.approx(share + (1 - share) / sampler.num_entities, abs=0.02)
    counts = sampler.engine.take_counts()
    assert counts["generated"] == pytest.approx(share * replaced.numel(), rel=0.05)
    assert counts["fallback"] == 0


def test_no_share_is_uniform() -> None:
    """Without a share the bank is not read, and all other entities are equally likely."""
    sampler = make_sampler(num_negs_per_pos=4, curriculum_kwargs={"share": 0.0}, random_state=11)
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
    sampler = make_sampler(
        num_negs_per_pos=num_negs_per_pos, corruption_scheme=scheme, curriculum_kwargs={"share": 0.5}
    )
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
    sampler = make_sampler(
        num_negs_per_pos=4, horizon=10, curriculum="linear", curriculum_kwargs={"share": 1.0, "kappa": 1.0}
    )
    # an entity's id tells which band it is from
    sampler.engine.bank.ids.copy_(torch.arange(4, dtype=torch.int32)[None, :, None].expand_as(sampler.engine.bank.ids))
    sampler.num_seen.fill_(int(progress * 10 * sampler.num_triples))
    weights = torch.tensor(sampler.state.weights)
    assert sampler.state.hardness == pytest.approx({0.0: 0.17, 0.5: 0.5, 1.0: 0.83}[progress], abs=0.01)
    torch.manual_seed(2)
    positives = training_of("umls").mapped_triples
    # those of low ids could not be told from the positives' own entities
    positives = positives[(positives[:, [0, 2]] > 3).all(dim=1)]
    negatives = sampler.corrupt_batch(positives)
    band = torch.where(negatives[..., 0] != positives[:, None, 0], negatives[..., 0], negatives[..., 2])
    measured = torch.bincount(band.flatten(), minlength=4).float() / band.numel()
    torch.testing.assert_close(measured, weights, atol=0.02, rtol=0)


def test_all_slots_are_used() -> None:
    """No slot of the bank is read much less often than the others, so that nothing is generated in vain."""
    sampler = make_sampler(num_negs_per_pos=4, curriculum="constant", curriculum_kwargs={"share": 1.0})
    ids = sampler.engine.bank.ids
    ids.copy_(torch.arange(ids[0].numel(), dtype=torch.int32).view_as(ids[0]).expand_as(ids))
    torch.manual_seed(3)
    positives = training_of("umls").mapped_triples
    positives = positives[(positives[:, [0, 2]] >= ids[0].numel()).all(dim=1)]
    negatives = sampler.corrupt_batch(positives.repeat(4, 1)).view(4, len(positives), 4, 3)
    slot = torch.where(negatives[..., 0] != positives[:, None, 0], negatives[..., 0], negatives[..., 2])
    count = torch.bincount(slot.flatten(), minlength=ids[0].numel()).float()
    # neighbours are read together, two for each side, so that the first and the last are read half as often
    assert count.min() > 0.4 * count.mean()
    assert count.max() < 1.4 * count.mean()


def test_distinct_negatives_of_a_positive() -> None:
    """The generated negatives of one positive differ from each other while there are enough in the bank."""
    sampler = make_sampler(num_negs_per_pos=8, num_slots=16, curriculum_kwargs={"share": 1.0}, random_state=5)
    positives = batch_of("umls", size=512)
    negatives = sampler.corrupt_batch(positives)
    distinct = [len(set(map(tuple, row))) for row in negatives.tolist()]
    assert sum(distinct) / len(distinct) > 7


# Randomness and progress


@every_sampler
def test_same_seed_same_negatives(make: Maker) -> None:
    """A seed determines the bank and the negatives; another one gives others."""
    positives = batch_of("umls")
    results = []
    for random_state in (0, 0, 1):
        coupling._alone.clear()
        sampler = make(num_negs_per_pos=8, random_state=random_state)
        torch.manual_seed(4)
        results.append((sampler.engine.bank.ids.clone(), sampler.corrupt_batch(positives)))
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
def test_making_a_sampler_leaves_the_random_state_alone(make: Maker) -> None:
    """Whatever is prepared, the global generator goes on as if nothing had happened, so that trainings compare."""
    coupling._alone.clear()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    make(random_state=123)
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
    second = make_sampler(num_negs_per_pos=2, curriculum_kwargs={"share": 0.5})
    assert len(fits) == 1
    assert first.engine is second.engine
    assert make_sampler(hidden_dim=32).engine is not first.engine
    assert len(fits) == 2


@every_sampler
def test_progress_alone(make: Maker) -> None:
    """A sampler without a callback counts epochs by itself, goes on to the end of its horizon, and stays there."""
    sampler = make("nations", horizon=4)
    triples = training_of("nations").mapped_triples
    hardness = []
    for _ in range(6):
        hardness.append(sampler.state.hardness)
        for batch in triples.split(256):
            sampler.sample(batch)
    assert all(a < b for a, b in itertools.pairwise(hardness[:5]))
    assert hardness[4] == hardness[5]
    levels = sampler.engine.num_choices
    assert hardness[0] == pytest.approx(sampler.curriculum(0.0, num_bands=levels).hardness)
    assert hardness[4] == pytest.approx(sampler.curriculum(1.0, num_bands=levels).hardness)


def test_progress_alone_in_workers() -> None:
    """Worker processes advance the progress of the sampler in the main process."""
    factory = training_of("nations")
    sampler = make_sampler("nations", horizon=4)
    model = TransE(triples_factory=factory, embedding_dim=4, random_seed=0)
    loop = SLCWATrainingLoop(model=model, triples_factory=factory, negative_sampler=sampler)
    loop.train(factory, num_epochs=2, batch_size=128, num_workers=2, use_tqdm=False, pin_memory=False)
    # PyKEEN has looked at two batches before, to find out whether they fit into memory; and two processes add to one
    # number without a lock, so that a few batches may be missing
    assert 1.5 * factory.num_triples < sampler.num_seen.item() <= 2 * factory.num_triples + 2 * 128


# Ablations and other options: each works, and does what its name says
