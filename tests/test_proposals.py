"""Proposals, and the strata of candidates beside them: each entity but the answer counts once in expectation."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pykeen_dans.scoring.proposals import (
    BankProposal,
    FrequencyProposal,
    Pool,
    Proposal,
    UniformProposal,
    proposal_resolver,
)
from pykeen_dans.scoring.strata import OwnCandidates, weigh_candidates
from pykeen_dans.scoring.subsampling import query_weights

from .toys import seeded

#: How often each entity of a graph of six answers, the last one never
ANSWERS = torch.tensor([0] * 5 + [1] * 3 + [2] + [3] * 2 + [4])
NUM_ENTITIES = 6


def make_proposal(name: str, **kwargs: Any) -> Proposal:
    return proposal_resolver.make(name, kwargs, num_entities=NUM_ENTITIES, answers=ANSWERS)


# What is drawn


@given(num_entities=st.integers(1, 500), size=st.integers(1, 600), seed=st.integers(0, 1_000))
@settings(deadline=None)
def test_uniform_strata(num_entities: int, size: int, seed: int) -> None:
    """Ids come once, and weights add up to the number of entities whatever is drawn."""
    ids, log_weights, distinct, _ = UniformProposal(num_entities=num_entities).draw(size, generator=seeded(seed))
    assert distinct
    assert len(ids) == len(log_weights) == min(size, num_entities)
    assert len(ids.unique()) == len(ids)
    assert ids.min() >= 0 and ids.max() < num_entities
    assert math.isclose(log_weights.exp().sum().item(), num_entities, rel_tol=1.0e-5)


@pytest.mark.parametrize("name", ["uniform", "frequency"])
@pytest.mark.parametrize("size", [NUM_ENTITIES, 100])
def test_all_entities(name: str, size: int) -> None:
    """With as many draws as entities, each of them is there once, and stands for itself."""
    ids, log_weights, *_ = make_proposal(name).draw(size)
    assert ids.tolist() == list(range(NUM_ENTITIES))
    assert not log_weights.any()


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("name", ["uniform", "frequency"])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_sums_are_unbiased(name: str, size: int, replacement: bool) -> None:
    proposal = make_proposal(name, replacement=replacement)
    values = torch.tensor([1.0, -2.0, 4.0, 0.5, 3.0, 7.0])
    generator = seeded()
    sums = torch.empty(3_000)
    for number in range(len(sums)):
        ids, log_weights, *_ = proposal.draw(size, generator=generator)
        sums[number] = (log_weights.exp() * values[ids]).sum()
    error = sums.std() / math.sqrt(len(sums))
    assert abs(sums.mean() - values.sum()) < 4 * error + 1.0e-4


@pytest.mark.parametrize("name", ["uniform", "frequency"])
def test_strata_vary_less(name: str) -> None:
    values = torch.arange(NUM_ENTITIES).float()
    variances = []
    for replacement in (False, True):
        proposal = make_proposal(name, replacement=replacement)
        generator = seeded()
        pools = [proposal.draw(4, generator=generator) for _ in range(2_000)]
        variances.append(torch.stack([(p.log_weights.exp() * values[p.ids]).sum() for p in pools]).var())
    assert variances[0] < 0.8 * variances[1]


def test_frequencies() -> None:
    proposal = make_proposal("frequency", power=0.5, uniform=0.25)
    roots = torch.tensor([5.0, 3.0, 1.0, 2.0, 1.0, 0.0]).sqrt()
    expected = 0.75 * roots / roots.sum() + 0.25 / NUM_ENTITIES
    torch.testing.assert_close(proposal.probabilities(), expected)
    generator = seeded()
    ids = torch.cat([proposal.draw(3, generator=generator).ids for _ in range(2_000)])
    torch.testing.assert_close(ids.bincount() / len(ids), expected, atol=0.02, rtol=0)


def test_frequencies_to_the_power_of_zero() -> None:
    """Entities that never answer do not count as the others even then."""
    proposal = make_proposal("frequency", power=0, uniform=0.1)
    assert proposal.probabilities()[-1] == pytest.approx(0.1 / NUM_ENTITIES)


@pytest.mark.parametrize("name", ["uniform", "frequency"])
def test_reproducible(name: str) -> None:
    proposal = make_proposal(name)
    first, second = (proposal.draw(3, generator=seeded(7)) for _ in range(2))
    assert first.ids.tolist() == second.ids.tolist()
    torch.manual_seed(7)
    assert proposal.draw(3).ids.tolist() == first.ids.tolist()


def test_many_entities() -> None:
    """Ids beyond what single precision can tell apart are drawn, too, and quickly."""
    num_entities = 2**31
    ids, log_weights, *_ = UniformProposal(num_entities=num_entities).draw(10_000, generator=seeded())
    assert (ids % 2 == 1).float().mean() > 0.4
    assert ids.max() > 0.99 * num_entities
    assert log_weights.exp().double().sum().item() == pytest.approx(num_entities, rel=1.0e-4)


# Strata, by enumeration of all pools


def pools(name: str, size: int = 2) -> Iterator[tuple[float, Pool]]:
    """Enumerate all pools of independent draws, with their probabilities."""
    proposal = make_proposal(name, replacement=True)
    probabilities = proposal.probabilities()
    weights = {}
    # the weight of an entity is the same in whatever pool it is
    for _ in range(200):
        pool = proposal.draw(size)
        weights.update(zip(pool.ids.tolist(), pool.log_weights.tolist(), strict=True))
    for ids in itertools.product(range(NUM_ENTITIES), repeat=size):
        log_weights = torch.tensor([weights[i] for i in ids])
        yield float(probabilities[list(ids)].prod()), Pool(torch.tensor(ids), log_weights)


def total(values: Tensor, pool: Pool, own: OwnCandidates | None, answers: Tensor) -> Tensor:
    """Estimate the sum of the values of all entities but the answers."""
    weights = weigh_candidates(answers, pool, own)
    result = (weights.shared.exp() * values[pool.ids] * ~weights.shared_mask).sum(dim=-1)
    if own is not None:
        assert weights.own is not None and weights.own_mask is not None
        result = result + (weights.own.exp() * values[own.ids.clamp_min(0)] * ~weights.own_mask).sum(dim=-1)
    return result


OWN: dict[str, OwnCandidates | None] = {
    "none": None,
    "some": OwnCandidates(torch.tensor([[1, 2], [1, 2], [1, 2]])),
    "always the same": OwnCandidates(torch.tensor([[5, 5], [5, 5], [5, 5]])),
    "the answer": OwnCandidates(torch.tensor([[0, 0], [3, 3], [5, 5]])),
    "the hardest": OwnCandidates(torch.tensor([[5, 2], [2, 4], [2, 4]])),
    "all others": OwnCandidates(torch.arange(NUM_ENTITIES).expand(3, -1)),
    "places without": OwnCandidates(torch.tensor([[-1, 2], [-1, -1], [4, 4]])),
}


@pytest.mark.parametrize("name", ["uniform", "frequency"])
@pytest.mark.parametrize("own", list(OWN.values()), ids=list(OWN))
def test_all_but_the_answer_count_once(name: str, own: OwnCandidates | None) -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 0.5, 3.0, 7.0])
    answers = torch.tensor([0, 3, 5])
    expected = values.sum() - values[answers]
    found = sum(probability * total(values, pool, own, answers) for probability, pool in pools(name))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["uniform", "frequency"])
def test_draws_from_a_stratum(name: str) -> None:
    """The candidates are two draws of a stratum of three, one of which may be the answer."""
    values = torch.tensor([1.0, 2.0, 4.0, 0.5, 3.0, 7.0])
    stratum = torch.tensor([[1, 2, 5], [4, 3, -1]])
    sizes = torch.tensor([[3.0], [2.0]])
    answers = torch.tensor([2, 0])
    expected = values.sum() - values[answers]
    found = torch.zeros(2)
    for row in range(2):
        members = stratum[row][stratum[row] >= 0]
        for first, second in itertools.product(members.tolist(), repeat=2):
            own = OwnCandidates(
                ids=torch.tensor([[first, second]]),
                log_weights=(sizes[row : row + 1] / 2).log().expand(1, 2),
                stratum=stratum[row : row + 1],
            )
            for probability, pool in pools(name):
                found[row] += probability / len(members) ** 2 * total(values, pool, own, answers[row : row + 1])[0]
    torch.testing.assert_close(found, expected)


@given(st.data())
@settings(deadline=None)
def test_masks(data: st.DataObject) -> None:
    """Masks are those that a loop over all pairs gives."""
    ids = st.integers(-1, 7)
    distinct = data.draw(st.booleans())
    shared = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=12, unique=distinct))
    own = data.draw(st.lists(st.lists(ids, min_size=3, max_size=3), min_size=1, max_size=5))
    answers = data.draw(st.lists(st.integers(0, 7), min_size=len(own), max_size=len(own)))
    weights = weigh_candidates(
        torch.tensor(answers),
        Pool(torch.tensor(shared), torch.zeros(len(shared)), distinct),
        OwnCandidates(torch.tensor(own)),
    )
    plain = weigh_candidates(torch.tensor(answers), Pool(torch.tensor(shared), torch.zeros(len(shared)), distinct))
    assert plain.shared_mask.tolist() == [[i == answer for i in shared] for answer in answers]
    assert weights.shared_mask.tolist() == [
        [i == answer or i in row for i in shared] for row, answer in zip(own, answers, strict=True)
    ]
    assert weights.own_mask is not None
    assert weights.own_mask.tolist() == [
        [i < 0 or i == answer or i in row[:place] for place, i in enumerate(row)]
        for row, answer in zip(own, answers, strict=True)
    ]


# Row weights


def test_query_weights() -> None:
    triples = torch.tensor([[0, 0, 1], [0, 0, 2], [0, 0, 3], [4, 0, 1], [0, 1, 1]])
    tails = torch.tensor([3.0, 3.0, 3.0, 1.0, 1.0])
    heads = torch.tensor([2.0, 1.0, 1.0, 2.0, 1.0])
    unique = query_weights(triples, sides=["tail", "head"], subsampling="unique")
    expected = torch.stack([tails, heads], dim=-1) ** -0.5
    torch.testing.assert_close(unique, expected / expected.mean(dim=0))
    both = query_weights(triples, sides=["tail", "head"], subsampling="frequency", power=1.0)
    expected = 1 / (tails + heads)
    torch.testing.assert_close(both, (expected / expected.mean()).unsqueeze(dim=-1).expand(-1, 2))
    assert query_weights(triples, sides=["tail"], subsampling="none") is None


# Bad input


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(uniform=0.0), r"uniform=0 leaves entities that nothing speaks for out of all pools; choose e.g. .1"),
        (dict(uniform=1.5), r"uniform=1.5 is outside \[0, 1\]"),
        (dict(power=-1), r"power=-1 is outside \[0, 10\]"),
        (dict(answers=None), r"proposal='frequency' has no training triples to count; pass answers, or use"),
        (dict(answers=torch.empty(0, dtype=torch.long)), r"has no training triples to count"),
        (dict(num_entities=0), r"num_entities=0 is not a whole number of at least 1"),
    ],
)
def test_bad_input(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrequencyProposal(**{"num_entities": NUM_ENTITIES, "answers": ANSWERS, **kwargs})


def test_bad_size() -> None:
    with pytest.raises(ValueError, match=r"size=0 is not a whole number of at least 1"):
        make_proposal("uniform").draw(0)


def test_bad_own_candidates() -> None:
    ids = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"ids has shape \(3,\), but needs shape \(batch_size, num_own\)"):
        OwnCandidates(ids[0])
    with pytest.raises(ValueError, match=r"log_weights and stratum belong together"):
        OwnCandidates(ids, log_weights=torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"log_weights has shape \(2, 2\), but needs that of ids, \(2, 3\)"):
        OwnCandidates(ids, log_weights=torch.zeros(2, 2), stratum=ids)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(subsampling="often"), r"subsampling='often' is unknown; choose one of frequency, none, unique"),
        (dict(subsampling="unique", power=-1.0), r"subsampling_power=-1.0 is outside \[0, 10\]"),
        (dict(subsampling="unique"), r"subsampling='unique' has no training triples to count"),
    ],
)
def test_bad_weights(kwargs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        query_weights(torch.empty(0, 3, dtype=torch.long), sides=["tail"], **kwargs)


# Proposals that follow a bank


class _Ids:
    """Ids that a test changes."""

    def __init__(self) -> None:
        self.version = 0
        self.now = torch.full((2, 3), -1)
        self.reads = 0

    def ids(self) -> Tensor:
        self.reads += 1
        return self.now


def test_bank_proposal_follows_the_bank() -> None:
    """It is uniform until something is generated, counts only when something new was, and leaves no entity out."""
    proposal, source = BankProposal(num_entities=NUM_ENTITIES, added=1.0), _Ids()
    proposal.follow(source)
    proposal.draw(2)
    assert proposal.probabilities().tolist() == pytest.approx([1 / 6] * 6)
    source.version, source.now = 1, torch.tensor([[1, 1, -1], [1, 4, -1]])
    for _ in range(3):
        proposal.draw(2)
    assert source.reads == 1
    counts = torch.tensor([0, 3, 0, 0, 1, 0]) / 4
    assert proposal.probabilities().tolist() == pytest.approx((0.5 * counts + 0.5 / 6).tolist())


@given(
    found=st.lists(st.integers(0, 49), min_size=1, max_size=200),
    size=st.integers(1, 39),
    added=st.floats(0, 4),
    seed=st.integers(0, 9),
)
@settings(max_examples=50, deadline=None)
def test_what_is_generated_takes_nothing_from_the_uniform_pool(
    found: list[int], size: int, added: float, seed: int
) -> None:
    """However bad a generator is, no entity weighs more than in a uniform pool, and hence none comes less often."""
    proposal, source = BankProposal(num_entities=50, added=added), _Ids()
    source.version, source.now = 1, torch.tensor(found)
    proposal.follow(source)
    pool = proposal.draw(size, generator=seeded(seed))
    assert len(pool.ids) == min(50, proposal.enlarge(size)) >= (1 + added) * size or len(pool.ids) == 50
    assert pool.log_weights.max().item() <= math.log(50 / size) + 1.0e-5


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_what_comes_for_sure_comes_once(size: int) -> None:
    """Draws that a likely entity does not need are left to others, of which some then come for sure, too."""
    answers = torch.tensor([4] * 90 + [2] * 9 + [0])
    proposal = FrequencyProposal(num_entities=NUM_ENTITIES, answers=answers, power=1.0, uniform=0.1)
    random, counts, seen = seeded(0), torch.zeros(NUM_ENTITIES), dict[int, float]()
    for _ in range(4_000):
        pool = proposal.draw(size, generator=random)
        counts += pool.ids.bincount(minlength=NUM_ENTITIES)
        weights = dict(zip(pool.ids.tolist(), pool.log_weights.tolist(), strict=True))
        assert pool.ids.tolist().count(4) == 1 and weights[4] == 0
        assert size == 2 or (pool.ids.tolist().count(2) == 1 and weights[2] == 0)
        seen |= weights
    # weights are the inverse of how often an entity comes, which is what makes sums unbiased
    often = [float(math.exp(-seen[entity])) for entity in range(NUM_ENTITIES)]
    assert (counts / 4_000).tolist() == pytest.approx(often, abs=0.03)
    # nothing else is certain, or as good as certain
    shares = proposal.probabilities()[[0, 1, 3, 5]]
    expected = (size - 2) * shares / shares.sum()
    assert size == 2 or (counts[[0, 1, 3, 5]] / 4_000).tolist() == pytest.approx(expected.tolist(), abs=0.03)


@pytest.mark.parametrize("replacement", [False, True])
def test_all_entities_are_represented_alike(replacement: bool) -> None:
    """However a pool is drawn, regularizers see each entity as often as any other."""
    proposal = make_proposal("frequency", uniform=0.1, replacement=replacement)
    random, counts = seeded(0), torch.zeros(NUM_ENTITIES)
    for _ in range(3_000):
        representatives = proposal.draw(3, generator=random).representatives
        assert representatives is not None and representatives.shape == (3,)
        counts += representatives.bincount(minlength=NUM_ENTITIES)
    assert (counts / 3_000).tolist() == pytest.approx([3 / NUM_ENTITIES] * NUM_ENTITIES, abs=0.04)
    assert make_proposal("uniform", replacement=replacement).draw(3).representatives is None


@pytest.mark.parametrize(("uniform", "expected"), [(1.0, 1.0), (0.8, 0.8), (0.5, 0.5)])
def test_representatives_are_from_the_pool_as_far_as_it_is_uniform(uniform: float, expected: float) -> None:
    proposal = FrequencyProposal(num_entities=10_000, answers=torch.arange(100), power=0.0, uniform=uniform)
    pools = [proposal.draw(64, generator=seeded(seed)) for seed in range(100)]
    shared = torch.stack([pool.ids == pool.representatives for pool in pools])
    assert shared.float().mean().item() == pytest.approx(expected, abs=0.03)


def test_results_do_not_keep_what_is_made_anew() -> None:
    proposal = make_proposal("frequency")
    size = len(pickle.dumps(proposal))
    proposal.draw(3)
    assert len(pickle.dumps(proposal)) == size
    assert pickle.loads(pickle.dumps(proposal)).draw(3).ids.shape == (3,)


def test_bank_proposal_has_unbiased_sums() -> None:
    """Whatever a generator proposes, be it always the same entity, sums over the pool are those over all entities."""
    proposal, source = BankProposal(num_entities=NUM_ENTITIES), _Ids()
    source.version, source.now = 1, torch.zeros(8, dtype=torch.long)
    proposal.follow(source)
    values = torch.tensor([1.0, -2.0, 4.0, 0.5, 3.0, 7.0])
    random = seeded(0)
    sums = [
        (pool.log_weights.exp() * values[pool.ids]).sum().item()
        for pool in (proposal.draw(3, generator=random) for _ in range(20_000))
    ]
    assert sum(sums) / len(sums) == pytest.approx(values.sum().item(), rel=0.02)
