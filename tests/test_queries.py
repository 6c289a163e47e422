"""The index of queries, against Python's own dictionaries and sets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.datasets import Nations

from pykeen_dans.graph import HEAD, TAIL, QueryIndex
from pykeen_dans.graph import queries as queries_module

NUM_ENTITIES, NUM_RELATIONS = 7, 3

Query = tuple[int, int, int]

triple_lists = st.lists(
    st.tuples(st.integers(0, NUM_ENTITIES - 1), st.integers(0, NUM_RELATIONS - 1), st.integers(0, NUM_ENTITIES - 1)),
    min_size=1,
    max_size=40,
)


def make_index(triples: list[tuple[int, int, int]]) -> QueryIndex:
    return QueryIndex(mapped_triples=torch.tensor(triples), num_entities=NUM_ENTITIES, num_relations=NUM_RELATIONS)


def answers_by_query(triples: list[tuple[int, int, int]]) -> dict[Query, set[int]]:
    """Collect what the index should hold, the slow way."""
    answers: dict[Query, set[int]] = {}
    for head, relation, tail in triples:
        answers.setdefault((tail, relation, HEAD), set()).add(head)
        answers.setdefault((head, relation, TAIL), set()).add(tail)
    return answers


def queries_of(index: QueryIndex) -> list[Query]:
    batch = index.select(torch.arange(index.num_queries))
    return list(zip(batch.kept.tolist(), batch.relations.tolist(), batch.sides.tolist(), strict=True))


def answers_of(index: QueryIndex, row: int) -> list[int]:
    return index.answers[int(index.offsets[row]) : int(index.offsets[row + 1])].tolist()


@pytest.fixture(params=["table", "search"])
def lookup(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Find queries both ways: by a table of all possible ones, and by a search among the known ones."""
    if request.param == "search":
        monkeypatch.setattr(queries_module, "_MAX_TABLE", 0)
    return request.param


@settings(max_examples=60, deadline=None)
@given(triples=triple_lists)
def test_index_holds_each_query_with_its_distinct_answers(triples: list[tuple[int, int, int]]) -> None:
    # each triple twice, since duplicates must not count
    index = make_index(triples + triples)
    expected = answers_by_query(triples)
    assert {query: answers_of(index, row) for row, query in enumerate(queries_of(index))} == {
        query: sorted(answers) for query, answers in expected.items()
    }
    assert index.num_queries == len(expected)
    assert index.num_answers(torch.arange(index.num_queries)).tolist() == [
        len(expected[query]) for query in queries_of(index)
    ]


@settings(max_examples=30, deadline=None)
@given(triples=triple_lists, table=st.booleans())
def test_find_knows_exactly_the_queries_of_training(triples: list[tuple[int, int, int]], table: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queries_module, "_MAX_TABLE", 2**24 if table else 0)
        index = make_index(triples)
    assert (index._dense is not None) == table
    position = {query: row for row, query in enumerate(queries_of(index))}
    # a margin of two ids around the known ones, which alias the keys of other queries
    grid = torch.cartesian_prod(torch.arange(NUM_ENTITIES + 2), torch.arange(NUM_RELATIONS + 2), torch.arange(2))
    found = index.find(*grid.unbind(dim=-1))
    assert found.tolist() == [position.get(tuple(query), -1) for query in grid.tolist()]


def test_select_is_the_inverse_of_find(lookup: str) -> None:
    factory = Nations().training
    index = QueryIndex(
        mapped_triples=factory.mapped_triples,
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
    )
    assert (index._dense is None) == (lookup == "search")
    rows = torch.randperm(index.num_queries)
    batch = index.select(rows)
    assert len(batch) == index.num_queries
    assert torch.equal(batch.rows, rows)
    assert torch.equal(index.find(batch.kept, batch.relations, batch.sides), rows)
    # the side may be one for all
    tails = batch.sides == TAIL
    assert torch.equal(index.find(batch.kept[tails], batch.relations[tails], TAIL), rows[tails])
    assert not set(index.find(batch.kept[tails], batch.relations[tails], HEAD).tolist()) & set(rows[tails].tolist())


def test_find_leaves_its_arguments_alone(lookup: str) -> None:
    index = make_index([(0, 0, 1)])
    kept, relations = torch.tensor([0, NUM_ENTITIES]), torch.tensor([0, 10 * NUM_RELATIONS])
    index.find(kept, relations, TAIL)
    assert kept.tolist() == [0, NUM_ENTITIES]
    assert relations.tolist() == [0, 10 * NUM_RELATIONS]


def test_inverse_triples_give_the_same_answers_by_the_inverse_relation() -> None:
    factory = Nations().training
    triples = factory.mapped_triples
    inverse = triples[:, [2, 1, 0]] + torch.tensor([0, factory.num_relations, 0])
    index = QueryIndex(
        mapped_triples=torch.cat([triples, inverse]),
        num_entities=factory.num_entities,
        num_relations=2 * factory.num_relations,
    )
    head, relation, _ = triples.unbind(dim=-1)
    direct = index.find(head, relation, TAIL)
    back = index.find(head, relation + factory.num_relations, HEAD)
    assert (direct >= 0).all()
    assert (direct != back).all()
    for a, b in zip(direct[:50].tolist(), back[:50].tolist(), strict=True):
        assert answers_of(index, a) == answers_of(index, b)


@settings(max_examples=40, deadline=None)
@given(triples=triple_lists, seed=st.integers(0, 100))
def test_sample_answer_draws_known_answers_only(triples: list[tuple[int, int, int]], seed: int) -> None:
    index = make_index(triples)
    expected, queries = answers_by_query(triples), queries_of(index)
    rows = torch.arange(index.num_queries).repeat(20)
    drawn = index.sample_answer(rows, torch.Generator().manual_seed(seed))
    assert all(answer in expected[queries[row]] for row, answer in zip(rows.tolist(), drawn.tolist(), strict=True))


def test_sample_answer_draws_all_answers_alike() -> None:
    index = make_index([(0, 0, tail) for tail in (1, 2, 4, 6)] + [(3, 1, 5)])
    rows = index.find(torch.tensor([0]), torch.tensor([0]), TAIL).expand(8000)
    counts = torch.bincount(index.sample_answer(rows, torch.Generator().manual_seed(0)), minlength=NUM_ENTITIES)
    assert counts.nonzero().view(-1).tolist() == [1, 2, 4, 6]
    # four standard deviations of a binomial distribution
    assert (counts[counts > 0] - 2000).abs().max() < 4 * (8000 * 0.25 * 0.75) ** 0.5


@settings(max_examples=40, deadline=None)
@given(triples=triple_lists, data=st.data())
def test_known_tells_known_answers(triples: list[tuple[int, int, int]], data: st.DataObject) -> None:
    index = make_index(triples)
    expected, queries = answers_by_query(triples), queries_of(index)
    row_ids = data.draw(st.lists(st.integers(0, index.num_queries - 1), max_size=8))
    rows = torch.tensor(row_ids, dtype=torch.long)

    pool = data.draw(st.permutations(range(NUM_ENTITIES)))[: data.draw(st.integers(1, NUM_ENTITIES))]
    common = index.known(rows, torch.tensor(pool))
    assert common.shape == (len(rows), len(pool))
    assert common.tolist() == [[entity in expected[queries[row]] for entity in pool] for row in row_ids]

    own = torch.randint(NUM_ENTITIES, size=(len(rows), 5), generator=torch.Generator().manual_seed(len(rows)))
    assert index.known(rows, own).tolist() == [
        [entity in expected[queries[row]] for entity in entities]
        for row, entities in zip(row_ids, own.tolist(), strict=True)
    ]


@settings(max_examples=40, deadline=None)
@given(triples=triple_lists)
def test_is_answer_tells_known_answers_of_each_row(triples: list[tuple[int, int, int]]) -> None:
    index = make_index(triples)
    expected, queries = answers_by_query(triples), queries_of(index)
    # all pairs; a negative row stands for an unknown query, a negative entity for an empty slot
    rows, entities = torch.cartesian_prod(torch.arange(-1, index.num_queries), torch.arange(-1, NUM_ENTITIES)).T
    shape = (-1, NUM_ENTITIES + 1)
    result = index.is_answer(rows.view(shape), entities.view(shape).int())
    assert result.shape == rows.view(shape).shape
    assert result.view(-1).tolist() == [
        row >= 0 and entity in expected[queries[row]]
        for row, entity in zip(rows.tolist(), entities.tolist(), strict=True)
    ]


def test_index_needs_triples_and_keys_that_fit() -> None:
    with pytest.raises(ValueError, match=r"mapped_triples is empty.*at least one"):
        QueryIndex(mapped_triples=torch.empty(0, 3, dtype=torch.long), num_entities=2, num_relations=1)
    with pytest.raises(ValueError, match=r"num_entities=.*remove unused"):
        QueryIndex(mapped_triples=torch.tensor([[0, 0, 1]]), num_entities=2**40, num_relations=2**30)


@pytest.mark.parametrize("side", [HEAD, TAIL])
def test_an_index_of_one_side_knows_the_queries_of_that_side_alone(side: int) -> None:
    triples = torch.randint(5, (40, 3), generator=torch.Generator().manual_seed(0))
    both = QueryIndex(mapped_triples=triples, num_entities=5, num_relations=5)
    one = QueryIndex(mapped_triples=triples, num_entities=5, num_relations=5, sides=(side,))
    everything = both.select(torch.arange(both.num_queries))
    kept, relations = everything.kept, everything.relations
    for asked in (HEAD, TAIL):
        expected, found = both.find(kept, relations, asked), one.find(kept, relations, asked)
        if asked != side:
            assert (found == -1).all()
            continue
        assert torch.equal(found >= 0, expected >= 0)
        known = found >= 0
        entities = torch.arange(5)
        assert torch.equal(one.known(found[known], entities), both.known(expected[known], entities))
