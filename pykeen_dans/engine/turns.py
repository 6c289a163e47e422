"""In which turn queries are generated for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pykeen.typing import LongTensor

from ..bank import NegativeBank
from ..graph import QueryIndex

__all__ = [
    "QueryTurns",
]


class QueryTurns:
    """Each query once before any comes again, those of many positives early.

    :param index: the queries
    :param bank: the bank, in which several queries may share a row
    """

    def __init__(self, index: QueryIndex, bank: NegativeBank) -> None:
        """Initialise the turns."""
        self.index = index
        self.bank = bank
        self._pending: LongTensor = torch.empty(0, dtype=torch.long)

    def next(self, size: int, random: torch.Generator) -> LongTensor:
        """Take the next queries.

        :param size: the largest number of queries
        :param random: the source of randomness, on the CPU

        :returns: shape: (n,) their positions in the index, at least one
        """
        if len(self._pending) == 0:
            self._pending = self._order(random)
        chosen, self._pending = self._pending[:size], self._pending[size:]
        return chosen

    def _order(self, random: torch.Generator) -> LongTensor:
        # a random order in which each next one is drawn by its number of positives (Efraimidis & Spirakis, 2006)
        uses = self.index.num_answers(torch.arange(self.index.num_queries))
        order = (torch.empty(len(uses)).exponential_(generator=random) / uses).argsort()
        if self.bank.shared:
            # one query speaks for all that share its row, another one in each round
            rows, position = self.bank.rows(order).sort(stable=True)
            first = torch.ones_like(rows, dtype=torch.bool)
            first[1:] = rows[1:] != rows[:-1]
            order = order[position[first].sort().values]
        return order

    def state_dict(self) -> dict[str, Any]:
        """Tell which queries are still to come."""
        return {"pending": self._pending}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where others were.

        :param state: what :meth:`state_dict` told
        """
        self._pending = state["pending"].clone()
