"""The decoder, against a brute-force search in Python."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from pykeen.typing import FloatTensor, LongTensor

from pykeen_dans.bank import SpreadDecoder
from pykeen_dans.graph import TAIL, QueryIndex
from pykeen_dans.space import EntitySpace
from pykeen_dans.space.combination import TranslationCombination

from .toys import make_space, seeded

NUM_ENTITIES = 40
#: the number of known answers of the queries, of which the i-th has the first ones
NUM_KNOWN = (3, 10, NUM_ENTITIES - 2, NUM_ENTITIES - 1, NUM_ENTITIES)


@pytest.fixture(scope="module")
def space() -> EntitySpace:
    return make_space(torch.randn(NUM_ENTITIES, 5, generator=seeded(1)))


@pytest.fixture(scope="module")
def index() -> QueryIndex:
    """Make queries for tails, the i-th of which knows its first answers: 3, 10, all but two, all but one, or all."""
    triples = [(i, 0, t) for i, n in enumerate(NUM_KNOWN) for t in range(n)]
    return QueryIndex(mapped_triples=torch.tensor(triples), num_entities=NUM_ENTITIES, num_relations=1)


def rows_of(index: QueryIndex, *heads: int) -> LongTensor:
    return index.find(torch.tensor(heads), torch.zeros(len(heads), dtype=torch.long), TAIL)


def decode(
    vectors: FloatTensor,
    space: EntitySpace,
    index: QueryIndex,
    rows: LongTensor,
    *,
    seed: int = 0,
    spread: float = 0.1,
    num_slots: int = 8,
    min_candidates: int = 4,
    masks_known: bool = True,
) -> LongTensor:
    decoder = SpreadDecoder(num_slots=num_slots, min_candidates=min_candidates, masks_known=masks_known)
    return decoder.decode(vectors, space=space, index=index, rows=rows, spread=spread, random=seeded(seed))


def by_cosine(vector: FloatTensor, space: EntitySpace, without: set[int]) -> list[int]:
    """Sort all entities but some by their cosine with a vector, the slow way."""

    def cosine(entity: int) -> float:
        other = space.vectors[entity].tolist()
        return sum(a * b for a, b in zip(vector.tolist(), other, strict=True)) / math.hypot(*other)

    return sorted(set(range(space.num_entities)) - without, key=cosine, reverse=True)


def answers_of(index: QueryIndex, row: int) -> set[int]:
    return set(index.answers[int(index.offsets[row]) : int(index.offsets[row + 1])].tolist())


def test_the_length_of_a_vector_does_not_matter(space: EntitySpace, index: QueryIndex) -> None:
    rows, vectors = rows_of(index, 0, 1), torch.randn(2, 5, generator=seeded())
    assert torch.equal(decode(100 * vectors, space, index, rows), decode(vectors, space, index, rows))


@pytest.mark.parametrize("masks_known", [True, False])
@pytest.mark.parametrize(("spread", "num_nearest"), [(0.05, 3), (0.125, 5), (0.2, 8)])
def test_ids_are_drawn_from_the_nearest_share_of_all(
    space: EntitySpace, index: QueryIndex, spread: float, num_nearest: int, masks_known: bool
) -> None:
    """Known answers are left out, or compete by their nearness like all others; both exactly."""
    row = rows_of(index, 1)
    # so many slots that the pool is all entities; the vector of an answer is nearest to this answer
    vectors = space.vectors[[2]] + 0.1 * torch.randn(1, 5, generator=seeded())
    answers = answers_of(index, int(row))
    nearest = by_cosine(vectors[0], space, without=answers if masks_known else set())[:num_nearest]
    assert bool(answers & set(nearest)) != masks_known
    drawn: set[int] = set()
    for seed in range(20):
        (ids,) = decode(
            vectors, space, index, row, spread=spread, seed=seed, min_candidates=3, masks_known=masks_known
        ).tolist()
        assert set(ids) <= set(nearest)
        drawn |= set(ids)
    assert drawn == set(nearest)


def test_ids_are_drawn_from_the_fewest_candidates_at_least(space: EntitySpace, index: QueryIndex) -> None:
    row = rows_of(index, 0)
    vectors = torch.randn(1, 5, generator=seeded())
    nearest = by_cosine(vectors[0], space, without=answers_of(index, int(row)))[:12]
    drawn = {
        entity
        for seed in range(30)
        for entity in decode(vectors, space, index, row, spread=0.001, seed=seed, min_candidates=12).flatten().tolist()
    }
    assert drawn == set(nearest)


@pytest.mark.parametrize("masks_known", [True, False])
def test_all_candidates_are_drawn_alike(space: EntitySpace, index: QueryIndex, masks_known: bool) -> None:
    """Competing known answers come no more and no less often than others that are as near."""
    num_draws = 4000
    row = rows_of(index, 1)
    ids = decode(
        space.vectors[[2]].expand(num_draws, 5),
        space,
        index,
        row.expand(num_draws),
        spread=0.2,
        num_slots=9,
        masks_known=masks_known,
    )
    # of 8 candidates, all come, and one of them twice
    counts = Counter(ids.flatten().tolist())
    assert len(counts) == 8
    twice = torch.tensor([count - num_draws for count in counts.values()])
    assert (twice - num_draws / 8).abs().max() < 4 * (num_draws / 8 * 7 / 8) ** 0.5


def test_a_pool_stands_for_all_entities_in_expectation() -> None:
    num_entities, spread, num_slots = 3000, 0.1, 16
    space = make_space(torch.randn(num_entities, 5, generator=seeded(2)))
    large = QueryIndex(mapped_triples=torch.tensor([[0, 0, 1]]), num_entities=num_entities, num_relations=1)
    vectors = torch.randn(30, 5, generator=seeded())
    cosine = torch.nn.functional.normalize(vectors, dim=-1) @ torch.nn.functional.normalize(space.vectors, dim=-1).T
    rank = cosine.argsort(dim=-1, descending=True).argsort(dim=-1)
    rows = torch.zeros(30, dtype=torch.long)
    percentiles = torch.stack(
        [
            rank.gather(1, decode(vectors, space, large, rows, spread=spread, num_slots=num_slots, seed=seed))
            for seed in range(40)
        ]
    ).div(num_entities)
    # the mean of the 16 smallest of 160 uniform numbers is 17 / 2 / 161
    assert percentiles.mean().item() == pytest.approx(spread / 2, rel=0.1)
    assert percentiles.max() < 2.5 * spread
    assert (percentiles < spread).float().mean() > 0.85
    # different pools give different entities
    assert len(percentiles[:, 0].unique()) > 4 * num_slots


@pytest.mark.parametrize("spread", [0.02, 0.3, 1.0])
def test_masked_answers_are_never_drawn(space: EntitySpace, index: QueryIndex, spread: float) -> None:
    rows = torch.arange(index.num_queries).repeat(3)
    # the vectors of answers themselves, which are the nearest of all
    vectors = space.vectors[index.sample_answer(rows, seeded())]
    found_known = False
    for seed in range(5):
        for masks_known in (True, False):
            ids = decode(vectors, space, index, rows, spread=spread, seed=seed, masks_known=masks_known)
            assert ids.min() >= -1
            assert ids.max() < NUM_ENTITIES
            for row, found in zip(rows.tolist(), ids.tolist(), strict=True):
                known = set(found) & answers_of(index, row)
                assert not (known and masks_known)
                found_known |= bool(known)
    assert found_known, "competing answers are drawn"


def test_no_id_comes_twice_while_there_are_enough(space: EntitySpace, index: QueryIndex) -> None:
    rows = rows_of(index, 0, 1).repeat(10)
    vectors = torch.randn(len(rows), 5, generator=seeded())
    # a pool of 30 leaves 20 candidates where 10 are known
    for spread in (0.2, 0.27):
        for found in decode(vectors, space, index, rows, spread=spread).tolist():
            assert len(set(found)) == 8
            assert -1 not in found


def test_few_candidates_take_turns_and_none_gives_minus_one(space: EntitySpace, index: QueryIndex) -> None:
    rows = rows_of(index, 2, 3, 4)
    ids = decode(torch.randn(3, 5, generator=seeded()), space, index, rows, num_slots=7)
    two, one, nothing = (Counter(found) for found in ids.tolist())
    assert set(two) == {NUM_ENTITIES - 2, NUM_ENTITIES - 1}
    assert sorted(two.values()) == [3, 4]
    assert one == {NUM_ENTITIES - 1: 7}
    assert nothing == {-1: 7}


def test_more_slots_than_entities(space: EntitySpace, index: QueryIndex) -> None:
    rows = rows_of(index, 0)
    (found,) = decode(torch.ones(1, 5), space, index, rows, num_slots=100, spread=1.0).tolist()
    assert set(found) == set(range(NUM_ENTITIES)) - answers_of(index, int(rows))
    counts = Counter(found)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_bands_and_sources_are_decoded_each_with_its_own_vector_space_and_spread(
    space: EntitySpace, index: QueryIndex
) -> None:
    rows = rows_of(index, 0, 1)
    vectors = torch.randn(2, 3, 2, 5, generator=seeded())
    spreads = [[0.5, 0.4], [0.3, 0.2], [0.2, 0.05]]
    spaces = [space, make_space(torch.randn(NUM_ENTITIES, 5, generator=seeded(9)))]
    decoder = SpreadDecoder(num_slots=4, masks_known=True)
    ids = decoder(vectors, spaces=spaces, index=index, rows=rows, spreads=spreads, random=seeded())
    assert ids.shape == (2, 3, 2, 4)
    random = seeded()
    for band, of_band in enumerate(spreads):
        for source, spread in enumerate(of_band):
            expected = decoder.decode(
                vectors[:, band, source], space=spaces[source], index=index, rows=rows, spread=spread, random=random
            )
            assert torch.equal(ids[:, band, source], expected)


@pytest.mark.parametrize("masks_known", [True, False])
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_only_members_of_a_space_are_decoded(index: QueryIndex, spread: float, masks_known: bool) -> None:
    members = torch.arange(1, NUM_ENTITIES, 2)
    vectors = torch.randn(NUM_ENTITIES, 5, generator=seeded(1))
    space = EntitySpace.create(entities=vectors, relations=None, combination=TranslationCombination(), members=members)
    ids = decode(
        torch.randn(3, 5, generator=seeded()),
        space,
        index,
        rows_of(index, 0, 1, 3),
        spread=spread,
        num_slots=64,
        masks_known=masks_known,
    )
    for found, num_known in zip(ids, (3, 10, NUM_ENTITIES - 1), strict=True):
        allowed = {entity for entity in members.tolist() if entity >= num_known or not masks_known}
        assert set(found.tolist()) <= allowed
        assert len(set(found.tolist())) >= min(len(allowed), 5)


def test_bad_values() -> None:
    with pytest.raises(ValueError, match=r"num_slots=0"):
        SpreadDecoder(num_slots=0)
    with pytest.raises(ValueError, match=r"min_candidates=0"):
        SpreadDecoder(num_slots=1, min_candidates=0)
