"""The bank of generated ids."""

from __future__ import annotations

import multiprocessing

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pykeen_dans.bank import NegativeBank


@settings(max_examples=60, deadline=None)
@given(
    num_queries=st.integers(1, 500),
    num_bands=st.integers(1, 5),
    num_slots=st.integers(1, 9),
    kib=st.floats(0.2, 8),
    num_groups=st.one_of(st.none(), st.integers(1, 100)),
)
def test_bank_stays_within_its_memory(
    num_queries: int, num_bands: int, num_slots: int, kib: float, num_groups: int | None
) -> None:
    groups = None if num_groups is None else torch.arange(num_queries) % num_groups
    bank = NegativeBank(
        num_queries=num_queries, num_bands=num_bands, num_slots=num_slots, memory=kib / 1024, groups=groups
    )
    assert bank.ids.element_size() * bank.ids.numel() <= kib * 1024
    assert bank.row_size == num_bands * num_slots
    # the bank shares rows only if it must
    assert bank.shared == (4 * num_queries * num_bands * num_slots > kib * 1024)
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
    bank = NegativeBank(num_queries=5, num_bands=2, num_slots=3, memory=1)
    assert (bank.ids == -1).all()
    assert bank.filled == 0.0
    ids = torch.arange(12).view(2, 2, 3)
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
    answers.put(int(bank.ids[0, 0, 0]))


def test_a_worker_process_sees_a_refresh() -> None:
    context = multiprocessing.get_context("fork")
    bank = NegativeBank(num_queries=3, num_bands=1, num_slots=2, memory=1)
    assert bank.ids.is_shared()
    refreshed, answers = context.Event(), context.SimpleQueue()
    child = context.Process(target=_tell_first_id, args=(bank, refreshed, answers))
    child.start()
    bank.write(torch.tensor([0]), torch.tensor([[[41, 42]]]))
    refreshed.set()
    assert answers.get() == 41
    child.join(timeout=30)
    assert child.exitcode == 0
