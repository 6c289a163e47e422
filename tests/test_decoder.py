"""Decoders, against a brute-force search in Python."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from pykeen.typing import FloatTensor, LongTensor

from pykeen_dans.bank.decoder import (
    Decoder,
    NearestDecoder,
    SoftmaxDecoder,
    SpreadDecoder,
    decoder_resolver,
)
from pykeen_dans.graph import TAIL, QueryIndex
from pykeen_dans.space.combination import TranslationCombination
from pykeen_dans.space.entity_space import EntitySpace
from pykeen_dans.utils.validation import make_by_name

from .toys import make_space, seeded

DECODERS = [NearestDecoder(), SpreadDecoder(), SoftmaxDecoder()]
NUM_ENTITIES = 40


@pytest.fixture(scope="module")
def space() -> EntitySpace:
    return make_space(torch.randn(NUM_ENTITIES, 5, generator=seeded(1)))


@pytest.fixture(scope="module")
def index() -> QueryIndex:
    """Make queries for tails, the i-th of which knows its first answers: 3, 10, all but two, all but one, or all."""
    triples = [
        (i, 0, t) for i, n in enumerate((3, 10, NUM_ENTITIES - 2, NUM_ENTITIES - 1, NUM_ENTITIES)) for t in range(n)
    ]
    return QueryIndex(mapped_triples=torch.tensor(triples), num_entities=NUM_ENTITIES, num_relations=1)


def rows_of(index: QueryIndex, *heads: int) -> LongTensor:
    return index.find(torch.tensor(heads), torch.zeros(len(heads), dtype=torch.long), TAIL)


def decode(
    decoder: Decoder,
    latent: FloatTensor,
    space: EntitySpace,
    index: QueryIndex,
    rows: LongTensor,
    *,
    seed: int = 0,
    spread: float = 0.1,
    num_slots: int = 8,
) -> LongTensor:
    return decoder.decode_band(
        latent, space=space, index=index, rows=rows, spread=spread, num_slots=num_slots, random=seeded(seed)
    )


def by_cosine(vector: FloatTensor, space: EntitySpace, without: set[int]) -> list[int]:
    """Sort all entities but some by their cosine with a vector, the slow way."""

    def cosine(entity: int) -> float:
        other = space.vectors[entity].tolist()
        return sum(a * b for a, b in zip(vector.tolist(), other, strict=True)) / math.hypot(*other)

    return sorted(set(range(space.num_entities)) - without, key=cosine, reverse=True)


def answers_of(index: QueryIndex, row: int) -> set[int]:
    return set(index.answers[int(index.offsets[row]) : int(index.offsets[row + 1])].tolist())


def test_nearest_takes_the_nearest_that_are_no_answers(space: EntitySpace, index: QueryIndex) -> None:
    rows = rows_of(index, 0, 1, 0, 1)
    latent = torch.randn(len(rows), 5, generator=seeded())
    ids = decode(NearestDecoder(), latent, space, index, rows)
    for row, vector, found in zip(rows.tolist(), latent, ids.tolist(), strict=True):
        expected = by_cosine(vector, space, without=answers_of(index, row))[:8]
        assert sorted(found) == sorted(expected)


def test_the_length_of_a_vector_does_not_matter(space: EntitySpace, index: QueryIndex) -> None:
    rows = rows_of(index, 0, 1)
    latent = torch.randn(2, 5, generator=seeded())
    for decoder in DECODERS:
        expected = decode(decoder, latent, space, index, rows)
        assert torch.equal(decode(decoder, 100 * latent, space, index, rows), expected)


@pytest.mark.parametrize(("spread", "num_nearest"), [(0.05, 3), (0.125, 5), (0.2, 8)])
def test_spread_draws_from_the_nearest_share_of_all(
    space: EntitySpace, index: QueryIndex, spread: float, num_nearest: int
) -> None:
    # so many slots that the pool is all entities
    decoder = SpreadDecoder(min_candidates=3)
    row = rows_of(index, 0)
    latent = torch.randn(1, 5, generator=seeded())
    nearest = by_cosine(latent[0], space, without=answers_of(index, int(row)))[:num_nearest]
    drawn: set[int] = set()
    for seed in range(20):
        (ids,) = decode(decoder, latent, space, index, row, spread=spread, seed=seed).tolist()
        assert set(ids) <= set(nearest)
        drawn |= set(ids)
    assert drawn == set(nearest)


def test_spread_draws_from_the_fewest_candidates_at_least(space: EntitySpace, index: QueryIndex) -> None:
    row = rows_of(index, 0)
    latent = torch.randn(1, 5, generator=seeded())
    nearest = by_cosine(latent[0], space, without=answers_of(index, int(row)))[:12]
    decoder = SpreadDecoder(min_candidates=12)
    drawn = {
        entity
        for seed in range(30)
        for entity in decode(decoder, latent, space, index, row, spread=0.001, seed=seed).flatten().tolist()
    }
    assert drawn == set(nearest)


def test_spread_draws_from_the_nearest_share_of_a_pool_in_expectation(index: QueryIndex) -> None:
    num_entities, spread, num_slots = 3000, 0.1, 16
    space = make_space(torch.randn(num_entities, 5, generator=seeded(2)))
    large = QueryIndex(mapped_triples=torch.tensor([[0, 0, 1]]), num_entities=num_entities, num_relations=1)
    latent = torch.randn(30, 5, generator=seeded())
    cosine = torch.nn.functional.normalize(latent, dim=-1) @ torch.nn.functional.normalize(space.vectors, dim=-1).T
    rank = cosine.argsort(dim=-1, descending=True).argsort(dim=-1)
    rows = torch.zeros(30, dtype=torch.long)
    percentiles = (
        torch.stack(
            [
                rank.gather(
                    1, decode(SpreadDecoder(), latent, space, large, rows, spread=spread, num_slots=num_slots, seed=s)
                )
                for s in range(40)
            ]
        )
        / num_entities
    )
    # the mean of the 16 smallest of 160 uniform numbers is 17 / 2 / 161
    assert percentiles.mean().item() == pytest.approx(spread / 2, rel=0.1)
    assert percentiles.max() < 2.5 * spread
    assert (percentiles < spread).float().mean() > 0.85
    # different pools give different entities
    assert len(percentiles[:, 0].unique()) > 4 * num_slots


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: type(decoder).__name__)
@pytest.mark.parametrize("spread", [0.02, 0.3, 1.0])
def test_known_answers_are_never_drawn(space: EntitySpace, index: QueryIndex, decoder: Decoder, spread: float) -> None:
    rows = torch.arange(index.num_queries).repeat(3)
    # the vectors of answers themselves, which are the nearest of all
    latent = space.vectors[index.sample_answer(rows, seeded())]
    for seed in range(5):
        ids = decode(decoder, latent, space, index, rows, spread=spread, seed=seed)
        assert ids.min() >= -1
        assert ids.max() < NUM_ENTITIES
        for row, found in zip(rows.tolist(), ids.tolist(), strict=True):
            assert not set(found) & answers_of(index, row)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: type(decoder).__name__)
def test_no_id_comes_twice_while_there_are_enough(space: EntitySpace, index: QueryIndex, decoder: Decoder) -> None:
    rows = rows_of(index, 0, 1).repeat(10)
    latent = torch.randn(len(rows), 5, generator=seeded())
    # a pool of 30 leaves 20 candidates where 10 are known
    for spread in (0.2, 0.27):
        for found in decode(decoder, latent, space, index, rows, spread=spread).tolist():
            assert len(set(found)) == 8
            assert -1 not in found


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: type(decoder).__name__)
def test_few_candidates_take_turns_and_none_gives_minus_one(
    space: EntitySpace, index: QueryIndex, decoder: Decoder
) -> None:
    rows = rows_of(index, 2, 3, 4)
    ids = decode(decoder, torch.randn(3, 5, generator=seeded()), space, index, rows, num_slots=7)
    two, one, nothing = (Counter(found) for found in ids.tolist())
    assert set(two) == {NUM_ENTITIES - 2, NUM_ENTITIES - 1}
    assert sorted(two.values()) == [3, 4]
    assert one == {NUM_ENTITIES - 1: 7}
    assert nothing == {-1: 7}


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: type(decoder).__name__)
def test_more_slots_than_entities(space: EntitySpace, index: QueryIndex, decoder: Decoder) -> None:
    rows = rows_of(index, 0)
    (found,) = decode(decoder, torch.ones(1, 5), space, index, rows, num_slots=100, spread=1.0).tolist()
    assert set(found) == set(range(NUM_ENTITIES)) - answers_of(index, int(rows))
    counts = Counter(found)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_softmax_draws_with_the_frequencies_of_the_softmax() -> None:
    space = make_space(torch.tensor([[1.0, 0.0], [-1.0, 0.2], [0.0, 1.0], [0.3, -1.0], [-0.5, -0.5]]))
    index = QueryIndex(mapped_triples=torch.tensor([[0, 0, 2]]), num_entities=5, num_relations=1)
    row = index.find(torch.tensor([0]), torch.tensor([0]), TAIL)
    vector, temperature, num_draws = torch.tensor([0.6, 0.8]), 0.7, 20_000
    ids = decode(
        SoftmaxDecoder(temperature=temperature, min_candidates=1),
        vector.expand(num_draws, 2), space, index, row.expand(num_draws), spread=0.2, num_slots=1,
    )  # fmt: skip
    cosine = torch.cosine_similarity(vector[None], space.vectors)
    cosine[2] = -math.inf
    expected = torch.softmax(cosine / temperature, dim=0)
    frequency = torch.bincount(ids.view(-1), minlength=5) / num_draws
    assert frequency[2] == 0
    assert ((frequency - expected).abs() <= 4 * (expected * (1 - expected) / num_draws).sqrt()).all()


def test_a_cold_softmax_takes_the_nearest(space: EntitySpace, index: QueryIndex) -> None:
    rows = rows_of(index, 0, 1)
    latent = torch.randn(2, 5, generator=seeded())
    cold = decode(SoftmaxDecoder(temperature=1e-6), latent, space, index, rows)
    nearest = decode(NearestDecoder(), latent, space, index, rows)
    assert torch.equal(cold.sort(dim=-1).values, nearest.sort(dim=-1).values)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: type(decoder).__name__)
def test_bands_are_decoded_each_with_its_own_vector_and_spread(
    space: EntitySpace, index: QueryIndex, decoder: Decoder
) -> None:
    rows = rows_of(index, 0, 1)
    latent = torch.randn(2, 3, 5, generator=seeded())
    spreads = (0.5, 0.3, 0.05)
    ids = decoder(
        latent, spaces=[space] * len(spreads), index=index, rows=rows, spreads=spreads, num_slots=4, random=seeded()
    )
    assert ids.shape == (2, 3, 4)
    random = seeded()
    for band, spread in enumerate(spreads):
        expected = decoder.decode_band(
            latent[:, band], space=space, index=index, rows=rows, spread=spread, num_slots=4, random=random
        )
        assert torch.equal(ids[:, band], expected)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: type(decoder).__name__)
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_only_members_of_a_space_are_decoded(index: QueryIndex, decoder: Decoder, spread: float) -> None:
    members = torch.arange(1, NUM_ENTITIES, 2)
    vectors = torch.randn(NUM_ENTITIES, 5, generator=seeded(1))
    space = EntitySpace.create(entities=vectors, relations=None, combination=TranslationCombination(), members=members)
    rows = rows_of(index, 0, 1, 3)
    ids = decode(decoder, torch.randn(3, 5, generator=seeded()), space, index, rows, spread=spread, num_slots=64)
    for found, num_known in zip(ids, (3, 10, NUM_ENTITIES - 1), strict=True):
        allowed = {entity for entity in members.tolist() if entity >= num_known}
        assert set(found.tolist()) <= allowed
        assert len(set(found.tolist())) >= min(len(allowed), 5)


def test_names_and_bad_values() -> None:
    assert set(decoder_resolver.options) == {"nearest", "softmax", "spread"}
    assert decoder_resolver.lookup(None) is SpreadDecoder
    with pytest.raises(ValueError, match=r"decoder='nope' .*nearest, softmax, spread"):
        make_by_name("decoder", decoder_resolver, "nope")
    with pytest.raises(ValueError, match=r"temperature=0"):
        SoftmaxDecoder(temperature=0)
    with pytest.raises(ValueError, match=r"min_candidates=0"):
        SpreadDecoder(min_candidates=0)
