"""The bank of generated entity ids that the hot path reads.

One row holds the ids of a query: for each hardness band (easy first) and each source a run of slots. ``-1`` marks a
slot for which nothing was generated. Rows are queries; where the memory option does not allow a row for each query,
queries share rows by their group.

Drawing is the only thing that is done for each batch. It reads neighbouring slots, which share a line of the
processor's cache, and draws one band for each positive and side.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from multiprocessing.context import get_spawning_popen
from typing import Any

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import Tensor

from ..utils.devices import DeviceCopies
from ..utils.processes import shared_with_forks
from ..utils.validation import validate_positive

__all__ = [
    "NegativeBank",
]

logger = logging.getLogger(__name__)


class NegativeBank:
    """Generated entity ids for queries, bounded in size and readable from worker processes.

    Processes that are forked share it as it is. For those that are spawned it is moved to shared memory, of which there
    may be less.

    :param num_queries: the number of queries
    :param num_bands: the number of hardness bands
    :param num_sources: the number of sources of each band
    :param num_slots: the number of ids of each band and source in a row
    :param memory: the upper limit for the ids, in MiB
    :param groups: shape: (num_queries,) the group of each query, by which queries share rows when memory is short.
        Larger numbers of groups than rows are folded.
    """

    #: shape: (num_rows, num_bands, num_sources, num_slots) int32, shared with worker processes
    ids: Tensor
    #: shape: (num_queries,) int32, the row of each query, or None where each query has its own
    row_of_query: Tensor | None
    #: how often something was written, by which those who count ids know when to do so again
    version: int

    def __init__(
        self,
        *,
        num_queries: int,
        num_bands: int,
        num_sources: int = 1,
        num_slots: int,
        memory: float,
        groups: LongTensor | None = None,
    ) -> None:
        """Allocate the bank."""
        self.memory = validate_positive("memory", memory)
        self.num_bands, self.num_sources, self.num_slots = num_bands, num_sources, num_slots
        self.row_of_query, self.version = None, 0
        self._copies = DeviceCopies()
        num_rows = num_queries
        max_rows = self.max_rows(num_ids=self.row_size, memory=memory)
        if num_queries > max_rows:
            if groups is None:
                groups = torch.arange(num_queries)
            num_groups, compact = torch.unique(groups, return_inverse=True)
            num_rows = min(max_rows, num_groups.shape[0])
            # the last entry is that of the query -1, which there is not
            self.row_of_query = torch.cat([compact % num_rows, torch.tensor([num_rows])]).int()
            logger.info(
                "%d queries share %d rows of the bank, since memory=%s MiB has no room for one each.",
                num_queries,
                num_rows,
                memory,
            )
        # one row more, in which nothing is ever written, so that reading needs no case for unknown queries
        shape = (num_rows + 1, num_bands, num_sources, num_slots)
        try:
            padded = shared_with_forks(shape, -1, dtype=torch.int32)
        except OSError as error:
            raise ValueError(
                f"memory={memory} MiB cannot be had for the bank of generated negatives ({error}); choose less."
            ) from error
        self.ids = padded[:-1]
        self._flat = padded.view(-1)

    def __getstate__(self) -> dict[str, Any]:
        """Move to shared memory where a worker process is being spawned, which reads from there.

        :returns: what is sent to it

        :raises ValueError: if there is not enough of it
        """
        if get_spawning_popen() is not None:
            try:
                self._flat.share_memory_()
            except RuntimeError as error:
                raise ValueError(
                    f"memory={self.memory} MiB for the bank of generated negatives is more shared memory than there is "
                    f"({error}); choose less, num_workers=0, or more of it, as by docker run --shm-size."
                ) from error
        return self.__dict__

    @staticmethod
    def max_rows(*, num_ids: int, memory: float) -> int:
        """Tell how many rows there is room for.

        :param num_ids: the number of ids in a row
        :param memory: the upper limit, in MiB

        :returns: the number of rows, at least one
        """
        return max(1, int(memory * 2**20) // (4 * num_ids))

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return self.ids.shape[0]

    @property
    def row_size(self) -> int:
        """The number of ids in a row."""
        return self.num_bands * self.num_sources * self.num_slots

    @property
    def shared(self) -> bool:
        """Whether several queries share one row, so that known answers cannot be masked when it is written."""
        return self.row_of_query is not None

    @property
    def filled(self) -> float:
        """The share of rows for which something was generated."""
        return (self.ids.flatten(start_dim=1) >= 0).any(dim=1).float().mean().item()

    def rows(self, queries: LongTensor) -> LongTensor:
        """Translate queries into rows.

        :param queries: shape: (...) positions in the query index, -1 for an unknown query

        :returns: shape: (...) rows, for an unknown query one that is always empty
        """
        if self.row_of_query is not None:
            return self._copies.get("rows", self.row_of_query, queries.device)[queries].long()
        return torch.where(queries < 0, self.num_rows, queries)

    def write(self, rows: LongTensor, ids: LongTensor) -> None:
        """Replace rows.

        :param rows: shape: (n,) the rows
        :param ids: shape: (n, num_bands, num_sources, num_slots) entity ids, -1 for none
        """
        self.ids[rows] = ids.int().cpu()
        self.version += 1

    def state_dict(self) -> dict[str, Any]:
        """Tell the ids, without a copy of them."""
        return {"ids": self.ids}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the ids of another bank.

        :param state: what its :meth:`state_dict` told

        :raises ValueError: if it has another shape
        """
        ids = state["ids"]
        if ids.shape != self.ids.shape:
            raise ValueError(f"its bank has the shape {tuple(ids.shape)}, where {tuple(self.ids.shape)} is needed")
        self.ids.copy_(ids)
        self.version += 1

    def draw(
        self,
        queries: LongTensor,
        *,
        num_draws: int,
        band_weights: Sequence[float],
        source_weights: Sequence[float],
        turns: LongTensor,
    ) -> LongTensor:
        """Draw ids for positives, on the device of their queries.

        Each positive has one band for each of its queries, drawn by the weights, and begins at a random slot of it.
        Among its draws, each source has its part, or one draw more where the numbers do not divide.

        :param queries: shape: (num_sides, n) the queries of each positive in the index, -1 for unknown ones
        :param num_draws: the number of draws for each positive
        :param band_weights: the weight of each band; they sum to 1
        :param source_weights: the weight of each source; they sum to 1
        :param turns: shape: (n, num_draws) which of its queries each draw is for

        :returns: shape: (n, num_draws) int32 entity ids, -1 for none
        """
        num_sides, size = queries.shape
        shape, device = (num_sides, size), queries.device
        begin = self.rows(queries) * self.row_size
        if self.num_bands > 1:
            bands = torch.multinomial(
                torch.tensor(band_weights, device=device), num_sides * size, replacement=True
            ).view(shape)
            begin += bands * (self.num_sources * self.num_slots)
        first = torch.randint(self.num_slots, size=shape, device=device)
        # neighbouring slots of one query, one after the other, and from the last one on to the first
        steps = torch.arange(num_draws, device=device).div(num_sides, rounding_mode="floor")
        if num_sides == 1:
            begin, slots = begin.T, first.T + steps
        else:
            begin, slots = begin.T.gather(1, turns), first.T.gather(1, turns) + steps
        position = begin + slots % self.num_slots
        if self.num_sources > 1:
            position += self._sources(size, num_draws, source_weights, device) * self.num_slots
        return self._copies.get("ids", self._flat, device, version=self.version).take(position)

    @staticmethod
    def _sources(size: int, num_draws: int, weights: Sequence[float], device: torch.device) -> LongTensor:
        """Let sources take turns, by systematic sampling, shape: (size, num_draws)."""
        edges: FloatTensor = torch.tensor(weights, device=device).cumsum(dim=0)[:-1]
        phases = (torch.arange(num_draws, device=device) + torch.rand(size, 1, device=device)) / num_draws
        return torch.bucketize(phases, edges, right=True)
