"""The bank of generated entity ids that the hot path reads."""

from __future__ import annotations

import logging

import torch
from pykeen.typing import LongTensor
from torch import Tensor

from ..utils.validation import validate_positive

__all__ = [
    "NegativeBank",
]

logger = logging.getLogger(__name__)


class NegativeBank:
    """Generated entity ids for the rows of an index, bounded in size and readable from worker processes.

    One row holds ``num_bands`` hardness bands (easy first) of ``num_slots`` ids each; ``-1`` marks a slot for which
    nothing was generated, which the sampler fills uniformly. Rows are queries; where the memory option does not allow a
    row for each query, queries share rows by their group (see ``row_of_query``).

    :param num_queries: the number of queries
    :param num_bands: the number of hardness bands
    :param num_slots: the number of ids in each band of a row
    :param memory: the upper limit for the ids, in MiB
    :param groups: shape: (num_queries,) the group of each query, by which queries share rows when memory is short.
        Larger numbers of groups than rows are folded.
    """

    #: shape: (num_rows, num_bands, num_slots) int32, in shared memory
    ids: Tensor
    #: shape: (num_queries,) int32, the row of each query, or None where each query has its own
    row_of_query: Tensor | None

    def __init__(
        self,
        *,
        num_queries: int,
        num_bands: int,
        num_slots: int,
        memory: float,
        groups: LongTensor | None = None,
    ) -> None:
        """Allocate the bank."""
        validate_positive("memory", memory)
        self.num_bands = num_bands
        self.num_slots = num_slots
        max_rows = max(1, int(memory * 2**20) // (4 * num_bands * num_slots))
        self.row_of_query = None
        num_rows = num_queries
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
        padded = torch.full((num_rows + 1, num_bands, num_slots), -1, dtype=torch.int32).share_memory_()
        self.ids = padded[:-1]
        self._flat = padded.view(-1)

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return self.ids.shape[0]

    @property
    def row_size(self) -> int:
        """The number of ids in a row."""
        return self.num_bands * self.num_slots

    @property
    def shared(self) -> bool:
        """Whether several queries share one row, so that known answers cannot be masked when it is written."""
        return self.row_of_query is not None

    @property
    def filled(self) -> float:
        """The share of rows for which something was generated."""
        return (self.ids[:, 0, 0] >= 0).float().mean().item()

    def rows(self, queries: LongTensor) -> LongTensor:
        """Translate queries into rows.

        :param queries: shape: (...) positions in the query index, -1 for an unknown query

        :returns: shape: (...) rows, for an unknown query one that is always empty
        """
        if self.row_of_query is not None:
            return self.row_of_query[queries].long()
        return torch.where(queries < 0, self.num_rows, queries)

    def read(self, positions: LongTensor) -> Tensor:
        """Read ids.

        :param positions: shape: (...) positions, ``row * row_size + band * num_slots + slot``

        :returns: shape: (...) int32 entity ids, -1 for none
        """
        return self._flat.take(positions)

    def write(self, rows: LongTensor, ids: LongTensor) -> None:
        """Replace rows.

        :param rows: shape: (n,) the rows
        :param ids: shape: (n, num_bands, num_slots) entity ids, -1 for none
        """
        self.ids[rows] = ids.int().cpu()
