"""What processes do in the tests of turns; in a module of its own, since each of them imports it."""

from __future__ import annotations

import os
import pathlib
from typing import Any


def work(turns: Any, *, name: str, costs: list[float], log: str) -> str:
    """Pretend to use seconds, and note each turn."""
    used = 0.0
    for cost in costs:
        turns.wait(used)
        with pathlib.Path(log).open("a") as file:
            file.write(name)
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
