"""What processes do in the tests of turns; in a module of its own, since each of them imports it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def noted(log: str, name: str) -> Iterator[None]:
    """Note when something begins and ends."""
    for word in ("begins", "ends"):
        with pathlib.Path(log).open("a") as file:
            file.write(f"{name} {word}\n")
        if word == "begins":
            yield


def work(turns: Any, *, name: str, costs: list[float], log: str) -> str:
    """Make ready, and pretend to use seconds."""
    # longer than it takes to start another process
    with noted(log, name):
        time.sleep(0.5)
    used = 0.0
    for cost in costs:
        turns.wait(used)
        with noted(log, name):
            time.sleep(0.01)
        used += cost
    return f"{name} used {used:g} s"


def fail(turns: Any) -> None:
    """Fail in the first turn."""
    turns.wait(0.0)
    raise ValueError("no such luck")


def die(turns: Any) -> None:
    """End without a word, as a process does that has no memory left."""
    turns.wait(0.0)
    os._exit(9)


def peak(turns: Any) -> float:
    """Tell the peak of memory."""
    from suite.training import peak_memory_mib

    turns.wait(0.0)
    return peak_memory_mib()
