"""What does not fit into memory at once is done in parts."""

from __future__ import annotations

import logging

import pytest
import torch

from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.engine.settings import UpdateBudget
from pykeen_dans.utils.memory import in_parts

from .utils import make_sampler

MESSAGES = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError("Unable to allocate 9.3 GiB for an array"),
]


def room_for(limit: int, sizes: list[int], error: BaseException):
    """Make a function of rows that has room for so many at once, and notes how many it gets."""

    def function(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        if len(rows) > limit:
            raise error
        return 2 * rows

    return function


@pytest.mark.parametrize("error", MESSAGES)
def test_halves(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Parts are halved until they fit, come in order, and are mentioned once."""
    rows, sizes = torch.arange(21).view(7, 3), list[int]()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.equal(in_parts(room_for(2, sizes, error), rows), 2 * rows)
    assert sizes[: len(sizes) // 2] == [7, 3, 1, 2, 4, 2, 2]
    assert caplog.text.count("no room for 7 queries at once") == 1


def test_other_errors_go_through() -> None:
    """Nothing is tried again that would fail again."""
    for error in (RuntimeError("shapes differ"), ValueError("out of memory")):
        sizes: list[int] = []
        with pytest.raises(type(error), match=str(error)):
            in_parts(room_for(2, sizes, error), torch.arange(4))
        assert sizes == [4]


def test_a_single_row_is_too_much() -> None:
    """The error says what to do."""
    with pytest.raises(MemoryError, match=r"a single query .*CUDA out of memory.*use a smaller model"):
        in_parts(room_for(0, [], MESSAGES[0]), torch.arange(4))


@pytest.mark.usefixtures("shared_cache", "no_engines")
def test_out_of_memory_during_a_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole bank is filled, in parts that fit, and training goes on."""
    engine = make_sampler("nations", fit_steps=0, random_state=3).engine
    vectors, sizes = GenerationEngine._vectors, list[int]()

    def scarce(self: GenerationEngine, rows: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        sizes.append(len(rows))
        if len(rows) > 200:
            raise MESSAGES[0]
        return vectors(self, rows, random)

    monkeypatch.setattr(GenerationEngine, "_vectors", scarce)
    engine.bank.ids.fill_(-1)
    report = engine.update(engine.reference_space(), None, UpdateBudget(fit_steps=0))
    assert report.refresh.queries == engine.index.num_queries == 909
    assert report.metrics["filled"] == 1
    assert sizes == [128, 909, 454, 227, 113, 114, 227, 113, 114, 455, 227, 113, 114, 228, 114, 114]
