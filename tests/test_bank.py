"""The bank of generated ids: what is kept, and what is drawn from it, against an oracle in Python."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.typing import LongTensor
from scipy.stats import chisquare

from pykeen_dans.bank import NegativeBank


@settings(max_examples=60, deadline=None)
@given(
    num_queries=st.integers(1, 500),
    num_bands=st.integers(1, 5),
    num_sources=st.integers(1, 3),
    num_slots=st.integers(1, 9),
    kib=st.floats(0.2, 8),
    num_groups=st.one_of(st.none(), st.integers(1, 100)),
)
def test_bank_stays_within_its_memory(
    num_queries: int, num_bands: int, num_sources: int, num_slots: int, kib: float, num_groups: int | None
) -> None:
    bank = NegativeBank(
        num_queries=num_queries,
        num_bands=num_bands,
        num_sources=num_sources,
        num_slots=num_slots,
        memory=kib / 1024,
        groups=None if num_groups is None else torch.arange(num_queries) % num_groups,
    )
    row_bytes = 4 * num_bands * num_sources * num_slots
    # one row is there however short memory is
    assert bank.ids.element_size() * bank.ids.numel() <= max(kib * 1024, row_bytes)
    # the bank shares rows only if it must
    assert bank.shared == (num_queries > max(1, int(kib * 1024) // row_bytes))
    rows = bank.rows(torch.arange(num_queries))
    assert rows.min() == 0
    assert rows.max() == bank.num_rows - 1
    if not bank.shared:
        assert rows.tolist() == list(range(num_queries))


def test_a_bank_has_one_row_at_least() -> None:
    assert NegativeBank(num_queries=5, num_bands=4, num_slots=64, memory=1e-6).num_rows == 1


def test_queries_of_one_group_share_rows_while_others_do_not() -> None:
    groups = torch.tensor([7, 7, 30, 7, 30, 2])
    # room for 4 rows of 4 bytes
    bank = NegativeBank(num_queries=6, num_bands=1, num_slots=1, memory=16 / 2**20, groups=groups)
    rows = bank.rows(torch.arange(6))
    assert bank.num_rows == 3
    assert ((rows[:, None] == rows[None]) == (groups[:, None] == groups[None])).all()
    # room for 2 rows, on which 3 groups are folded; still one group has one row
    folded = NegativeBank(num_queries=6, num_bands=1, num_slots=1, memory=8 / 2**20, groups=groups)
    rows = folded.rows(torch.arange(6))
    assert folded.num_rows == 2
    assert all(len(rows[groups == group].unique()) == 1 for group in (2, 7, 30))


def test_a_bank_starts_empty_and_returns_what_was_written() -> None:
    bank = NegativeBank(num_queries=5, num_bands=2, num_sources=2, num_slots=3, memory=1)
    assert (bank.ids == -1).all()
    assert bank.filled == 0.0
    ids = torch.arange(24).view(2, 2, 2, 3)
    bank.write(torch.tensor([4, 1]), ids)
    assert torch.equal(bank.ids[[4, 1]].long(), ids)
    assert (bank.ids[[0, 2, 3]] == -1).all()
    assert bank.filled == pytest.approx(0.4)


@pytest.mark.parametrize("memory", [0, -1.0, float("nan")])
def test_memory_must_be_positive(memory: float) -> None:
    with pytest.raises(ValueError, match="memory="):
        NegativeBank(num_queries=1, num_bands=1, num_slots=1, memory=memory)


def _tell_first_id(bank: NegativeBank, refreshed, answers) -> None:  # type: ignore[no-untyped-def]
    # sums of several threads would hang in a forked process
    torch.set_num_threads(1)
    refreshed.wait(timeout=30)
    drawn = bank.draw(
        torch.tensor([[0]]), num_draws=1, band_weights=[1.0], source_weights=[1.0], turns=torch.zeros(1, 1).long()
    )
    answers.put((int(bank.ids[0, 0, 0, 0]), int(drawn)))


def test_a_worker_process_sees_and_draws_what_was_refreshed() -> None:
    context = multiprocessing.get_context("fork")
    bank = NegativeBank(num_queries=3, num_bands=1, num_slots=2, memory=1)
    refreshed, answers = context.Event(), context.SimpleQueue()
    child = context.Process(target=_tell_first_id, args=(bank, refreshed, answers))
    child.start()
    bank.write(torch.tensor([0]), torch.tensor([[[[41, 41]]]]))
    refreshed.set()
    assert answers.get() == (41, 41)
    child.join(timeout=30)
    assert child.exitcode == 0


# Drawing: every slot holds a code that tells where it is


def coded_bank(
    *, num_queries: int, num_bands: int = 1, num_sources: int = 1, num_slots: int = 4, **kwargs: object
) -> NegativeBank:
    bank = NegativeBank(
        num_queries=num_queries,
        num_bands=num_bands,
        num_sources=num_sources,
        num_slots=num_slots,
        **{"memory": 16.0, **kwargs},  # type: ignore[arg-type]
    )
    bank.write(torch.arange(bank.num_rows), torch.arange(bank.ids.numel()).view(bank.ids.shape))
    return bank


def draw(
    bank: NegativeBank,
    queries: LongTensor,
    num_draws: int,
    *,
    band_weights: Sequence[float] | None = None,
    source_weights: Sequence[float] | None = None,
    turns: LongTensor | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Draw, and tell where each id was found, shape: (n, num_draws, 4): row, band, source and slot; -1 for none."""
    torch.manual_seed(seed)
    if turns is None:
        turns = (torch.arange(queries.shape[1])[:, None] + torch.arange(num_draws)) % len(queries)
    ids = bank.draw(
        queries,
        num_draws=num_draws,
        band_weights=band_weights or [1 / bank.num_bands] * bank.num_bands,
        source_weights=source_weights or [1 / bank.num_sources] * bank.num_sources,
        turns=turns,
    )
    assert ids.shape == (queries.shape[1], num_draws)
    assert ids.dtype == torch.int32
    place = np.stack(np.unravel_index(ids.clamp(min=0).numpy(), bank.ids.shape), axis=-1)
    return np.where(ids.numpy()[..., None] < 0, -1, place)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_each_draw_is_from_its_query_and_a_run_of_slots(data: st.DataObject) -> None:
    """Against a slow oracle: row, one band for each side, neighbouring slots round the end, sources in their parts."""
    num_queries, num_bands, num_sources, num_slots = (data.draw(st.integers(1, high)) for high in (9, 4, 3, 6))
    num_sides, num_draws, size = (data.draw(st.integers(1, high)) for high in (2, 9, 12))
    bank = coded_bank(num_queries=num_queries, num_bands=num_bands, num_sources=num_sources, num_slots=num_slots)
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    queries = torch.randint(-1, num_queries, size=(num_sides, size), generator=random)
    turns = torch.randint(num_sides, size=(size, num_draws), generator=random)
    places = draw(bank, queries, num_draws, turns=turns)
    for position, of_positive in enumerate(places):
        for side in range(num_sides):
            chosen = [draw for draw in range(num_draws) if turns[position, draw] == side]
            query = int(queries[side, position])
            if query < 0:
                assert (of_positive[chosen] == -1).all()
                continue
            found = of_positive[chosen]
            assert (found[:, 0] == query).all()
            assert len(set(found[:, 1])) <= 1
            # each pair of draws is as far apart in the row as the numbers of draws of all sides before them
            starts = {(slot - draw // num_sides) % num_slots for slot, draw in zip(found[:, 3], chosen, strict=True)}
            assert len(starts) <= 1
        if (queries[:, position] >= 0).all():
            counts = np.bincount(of_positive[:, 2], minlength=num_sources)
            assert counts.max() - counts.min() <= 1


def test_slots_wrap_around_and_none_comes_twice_before_all_have_come() -> None:
    bank = coded_bank(num_queries=1, num_slots=5)
    runs = draw(bank, torch.zeros(1, 400, dtype=torch.long), 5)[..., 3]
    assert (np.sort(runs, axis=1) == np.arange(5)).all()
    assert ((runs[:, 1:] - runs[:, :-1]) % 5 == 1).all()
    # all beginnings are alike, so that those that wrap around are among them
    assert chisquare(np.bincount(runs[:, 0], minlength=5)).pvalue > 1e-3
    longer = draw(bank, torch.zeros(1, 10, dtype=torch.long), 12)[..., 3]
    assert (longer[:, 5:] == longer[:, :-5]).all()


@pytest.mark.parametrize("weights", [(0.7, 0.2, 0.1), (0.25, 0.25, 0.5), (0.0, 0.4, 0.6)])
@pytest.mark.parametrize("num_sides", [1, 2])
def test_bands_are_drawn_by_their_weights(weights: tuple[float, ...], num_sides: int) -> None:
    bank = coded_bank(num_queries=3, num_bands=3)
    queries = torch.randint(3, size=(num_sides, 6000))
    bands = draw(bank, queries, num_sides, band_weights=weights)[..., 1]
    counts, expected = np.bincount(bands.flat, minlength=3), np.array(weights) * bands.size
    assert (counts[expected == 0] == 0).all()
    assert chisquare(counts[expected > 0], expected[expected > 0]).pvalue > 1e-3
    if num_sides == 2:
        # the band of one side tells nothing of that of the other
        together = (bands[:, 0] == bands[:, 1]).mean()
        alike = sum(weight**2 for weight in weights)
        assert together == pytest.approx(alike, abs=4 * (alike * (1 - alike) / 6000) ** 0.5)


@pytest.mark.parametrize("num_draws", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.8, 0.2), (1 / 3, 1 / 3, 1 / 3), (0.1, 0.3, 0.6), (1.0, 0.0)])
@pytest.mark.parametrize("num_sides", [1, 2])
def test_each_source_has_its_part_of_each_positive(num_draws: int, weights: tuple[float, ...], num_sides: int) -> None:
    """Each positive has the whole part of each source, or one more or less; and together they have the exact one."""
    size = 3000
    bank = coded_bank(num_queries=1, num_sources=len(weights))
    sources = draw(bank, torch.zeros(num_sides, size, dtype=torch.long), num_draws, source_weights=weights)[..., 2]
    for source, weight in enumerate(weights):
        counts, expected = (sources == source).sum(axis=1), weight * num_draws
        if abs(expected - round(expected)) < 1e-9:
            assert (counts == round(expected)).all()
            continue
        assert set(counts) == {int(expected), int(expected) + 1}
        part = expected % 1
        assert counts.mean() == pytest.approx(expected, abs=4 * (part * (1 - part) / size) ** 0.5)
    if num_sides == 2 and num_draws > 1:
        # no side is left to one source: neighbouring positives begin with the other side
        turns = (np.arange(size)[:, None] + np.arange(num_draws)) % 2
        of_side = [np.bincount(sources[turns == side], minlength=len(weights)) for side in range(2)]
        assert np.abs(of_side[0] - of_side[1]).max() < 0.05 * size * num_draws / 2


def test_sides_take_turns_as_they_are_told() -> None:
    bank = coded_bank(num_queries=20, num_bands=2, num_sources=2)
    queries = torch.stack([torch.arange(10), torch.arange(10, 20)])
    turns = (torch.arange(10)[:, None] + torch.arange(7)) % 2
    rows = draw(bank, queries, 7, turns=turns)[..., 0]
    for position, number in itertools.product(range(10), range(7)):
        assert rows[position, number] == position + (10 if (position + number) % 2 else 0)


def test_unknown_queries_and_empty_slots_give_minus_one() -> None:
    bank = coded_bank(num_queries=3, num_bands=2, num_sources=2)
    bank.write(torch.tensor([1]), torch.full((1, 2, 2, 4), -1))
    places = draw(bank, torch.tensor([[0, 1, -1, 2, -1]]), 6)
    assert (places[[1, 2, 4]] == -1).all()
    assert (places[[0, 3]] >= 0).all()


def test_shared_rows_are_drawn_for_all_that_share_them() -> None:
    groups = torch.tensor([0, 1, 0, 1, 2])
    # room for 3 rows of 4 slots
    bank = coded_bank(num_queries=5, num_slots=4, memory=3 * 4 * 4 / 2**20, groups=groups)
    assert bank.shared
    rows = draw(bank, torch.tensor([[0, 1, 2, 3, 4, -1]]), 3)[..., 0]
    assert rows.tolist() == [[0] * 3, [1] * 3, [0] * 3, [1] * 3, [2] * 3, [-1] * 3]


def test_drawing_is_reproducible_and_leaves_queries_alone() -> None:
    bank = coded_bank(num_queries=7, num_bands=3, num_sources=2)
    queries = torch.randint(-1, 7, size=(2, 50))
    before = queries.clone()
    first, again, other = (draw(bank, queries, 4, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert torch.equal(queries, before)
