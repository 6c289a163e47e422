"""Which negative of a positive is read from which part of the bank.

The negatives of a positive take turns: heads with tails, and, where a generator has several pathways, one pathway with
the others. What must come out is that each positive has the same number of negatives of each, or one more where the
numbers do not divide, and that over a batch all combinations are met equally often.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import torch
from pykeen.typing import LongTensor

__all__ = [
    "ReadingPlan",
    "reading_plan",
    "validate_way_shares",
]

#: Shares of pathways are rounded to multiples of one over this number
_RESOLUTION = 64


@dataclasses.dataclass(frozen=True)
class ReadingPlan:
    """The parts of the bank that the generated negatives of positives come from, for positives in turn.

    A *reader* is a side with a pathway, ``side_number * num_ways + way``. It opens the bank at one place for each
    positive, and reads from there on.

    :param readers: shape: (period, num_columns) the reader of each generated negative
    :param steps: shape: (period, num_columns) how many negatives the same reader has read before
    :param depth: the largest number of negatives that a reader reads for one positive
    """

    readers: LongTensor
    steps: LongTensor
    depth: int


def validate_way_shares(name: str, value: Sequence[float] | None, *, num_ways: int) -> tuple[float, ...]:
    """Check the shares of pathways.

    :param name: the argument's name
    :param value: one share for each pathway, None for equal ones
    :param num_ways: the number of pathways

    :returns: the shares

    :raises ValueError: if their number is another one, one is negative, or they do not sum to 1
    """
    if value is None:
        return (1 / num_ways,) * num_ways
    shares = tuple(value)
    if len(shares) != num_ways:
        raise ValueError(f"{name}={value!r} has {len(shares)} values; give one for each of {num_ways} pathways.")
    if any(not share >= 0 for share in shares) or not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
        raise ValueError(f"{name}={value!r} must be at least 0 each and sum to 1, for example (0.5, 0.5).")
    return shares


def _turns(shares: Sequence[float], length: int) -> list[int]:
    """Let pathways take turns, so that each stretch of any length holds each in proportion to its share."""
    owed = [0.0] * len(shares)
    turns = []
    for _ in range(length):
        owed = [debt + share for debt, share in zip(owed, shares, strict=True)]
        turn = max(range(len(shares)), key=lambda way: (round(owed[way], 9), -way))
        owed[turn] -= 1.0
        turns.append(turn)
    return turns


@functools.lru_cache(maxsize=256)
def reading_plan(*, num_columns: int, num_sides: int, way_shares: tuple[float, ...]) -> ReadingPlan:
    """Plan how the generated negatives of positives are read.

    :param num_columns: the number of generated negatives for each positive
    :param num_sides: the number of sides that are corrupted in turn; every other positive begins with the other one
    :param way_shares: the share of each pathway

    :returns: the plan. It is repeated when its rows are used up.
    """
    num_ways = len(way_shares)
    equal = len(set(way_shares)) == 1
    phases = num_ways if equal else _RESOLUTION
    # each positive begins one turn later, by which each column has its share of all pathways, also the last one, which
    # is read for a part of the positives only where the number of negatives is no whole one
    ways = torch.tensor(_turns(way_shares, phases + num_columns)).unfold(0, num_columns, 1)[:phases, None]
    sides = (torch.arange(num_sides)[:, None] + torch.arange(num_columns)) % num_sides
    readers = (sides * num_ways + ways).reshape(phases * num_sides, num_columns)
    same = readers[:, :, None] == readers[:, None, :]
    steps = same.tril(diagonal=-1).sum(dim=-1)
    return ReadingPlan(readers=readers, steps=steps, depth=int(steps.max()) + 1)
