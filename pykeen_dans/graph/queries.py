"""Queries and their known answers.

A *query* is a positive triple with one side taken away: ``(head, relation, ?)`` or ``(?, relation, tail)``. Everything
that is generated is generated for queries, since all positives that share a query share its negatives. The index also
holds the known training answers of each query in compressed sparse row form: those that are trained on, and those that
can be masked exactly while the bank is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from pykeen.typing import BoolTensor, LongTensor, MappedTriples
from torch import Tensor

from ..utils.devices import DeviceCopies

__all__ = [
    "HEAD",
    "TAIL",
    "QueryBatch",
    "QueryIndex",
]

#: The largest number of possible keys for which a table of them all is kept, 64 MiB
_MAX_TABLE = 2**24

#: The side of a query that is to be filled: the head is corrupted and the tail is kept
HEAD = 0
#: The side of a query that is to be filled: the tail is corrupted and the head is kept
TAIL = 1


@dataclasses.dataclass(frozen=True)
class QueryBatch:
    """Some queries of an index, spelled out.

    :param rows: shape: (n,) their positions in the index
    :param kept: shape: (n,) the kept entity
    :param relations: shape: (n,) the relation
    :param sides: shape: (n,) the side to be filled, :data:`HEAD` or :data:`TAIL`
    """

    rows: LongTensor
    kept: LongTensor
    relations: LongTensor
    sides: LongTensor

    def __len__(self) -> int:
        """Return the number of queries."""
        return self.rows.shape[0]


class QueryIndex:
    """The unique queries of a set of triples, with their known answers.

    :param mapped_triples: shape: (num_triples, 3) the training triples
    :param num_entities: the number of entities
    :param num_relations: the number of relations
    :param sides: the sides to be filled, among :data:`HEAD` and :data:`TAIL`

    :raises ValueError: if there is no triple, or if keys of 64 bits cannot tell all queries apart
    """

    #: shape: (num_queries,) sorted keys, ``(side * num_relations + relation) * num_entities + kept``
    keys: LongTensor
    #: shape: (num_queries + 1,) where the answers of each query start
    offsets: LongTensor
    #: shape: (num_sides * num_distinct_triples,) int32, the answers, sorted within each query
    answers: Tensor

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        num_entities: int,
        num_relations: int,
        sides: Sequence[int] = (HEAD, TAIL),
    ) -> None:
        """Build the index."""
        if mapped_triples.shape[0] == 0:
            raise ValueError("mapped_triples is empty: at least one training triple is needed to generate negatives.")
        if 2 * num_relations * num_entities >= 2**63:
            raise ValueError(
                f"num_entities={num_entities} and num_relations={num_relations} give more queries than 64-bit keys "
                f"can tell apart; remove unused entities or relations."
            )
        self.num_entities = num_entities
        self.num_relations = num_relations
        head, relation, tail = mapped_triples.long().cpu().unbind(dim=-1)
        keys = torch.cat([self.key(tail if side == HEAD else head, relation, side) for side in sides])
        answers = torch.cat([head if side == HEAD else tail for side in sides])
        # stable sorting by answer, then by key, sorts the pairs without one combined key that could overflow
        order = torch.argsort(answers, stable=True)
        order = order[torch.argsort(keys[order], stable=True)]
        keys, answers = keys[order], answers[order]
        distinct = torch.ones_like(keys, dtype=torch.bool)
        distinct[1:] = (keys[1:] != keys[:-1]) | (answers[1:] != answers[:-1])
        self.answers = answers[distinct].int()
        self.keys, counts = torch.unique_consecutive(keys[distinct], return_counts=True)
        self.offsets = torch.cat([counts.new_zeros(1), counts.cumsum(dim=0)])
        self._copies = DeviceCopies()
        # where all possible keys fit, a table is several times faster than a search
        self._dense: Tensor | None = None
        if (num_keys := 2 * num_relations * num_entities) <= _MAX_TABLE:
            self._dense = torch.full((num_keys,), -1, dtype=torch.int32)
            self._dense[self.keys] = torch.arange(self.num_queries, dtype=torch.int32)

    @property
    def num_queries(self) -> int:
        """The number of unique queries."""
        return self.keys.shape[0]

    def key(self, kept: LongTensor, relation: LongTensor, side: int | LongTensor) -> LongTensor:
        """Combine the parts of queries into keys.

        :param kept: shape: (n,) the kept entities
        :param relation: shape: (n,) the relations
        :param side: shape: () or (n,) the side to be filled

        :returns: shape: (n,) the keys
        """
        return (side * self.num_relations + relation) * self.num_entities + kept

    def find(self, kept: LongTensor, relation: LongTensor, side: int | LongTensor) -> LongTensor:
        """Find queries, on the device of their parts.

        :param kept: shape: (n,) the kept entities
        :param relation: shape: (n,) the relations
        :param side: shape: () or (n,) the side to be filled

        :returns: shape: (n,) their positions, or -1 where training has no such query
        """
        keys = self.key(kept, relation, side)
        inside = (kept < self.num_entities) & (relation < self.num_relations)
        if self._dense is not None:
            table = self._copies.get("dense", self._dense, keys.device)
            position = table.take(keys.clamp_(max=len(table) - 1)).long()
            # to look whether there are others is cheaper than to replace them, but a device would have to be waited for
            if keys.device.type == "cpu" and bool(inside.all()):
                return position
            return torch.where(inside, position, -1)
        own = self._copies.get("keys", self.keys, keys.device)
        position = torch.searchsorted(own, keys).clamp_(max=self.num_queries - 1)
        # ids outside of the known range must not alias the key of another query
        return torch.where((own[position] == keys) & inside, position, -1)

    def select(self, rows: LongTensor) -> QueryBatch:
        """Spell out some queries.

        :param rows: shape: (n,) positions in the index

        :returns: the queries
        """
        keys = self.keys[rows]
        side_and_relation = keys.div(self.num_entities, rounding_mode="floor")
        return QueryBatch(
            rows=rows,
            kept=keys % self.num_entities,
            relations=side_and_relation % self.num_relations,
            sides=side_and_relation.div(self.num_relations, rounding_mode="floor"),
        )

    def num_answers(self, rows: LongTensor) -> LongTensor:
        """Count the known answers.

        :param rows: shape: (n,) positions in the index

        :returns: shape: (n,) the number of known answers, at least 1
        """
        return self.offsets[rows + 1] - self.offsets[rows]

    def sample_answer(self, rows: LongTensor, generator: torch.Generator) -> LongTensor:
        """Draw one known answer of each query.

        :param rows: shape: (n,) positions in the index
        :param generator: the source of randomness

        :returns: shape: (n,) entity ids
        """
        count = self.num_answers(rows)
        choice = (torch.rand(rows.shape, generator=generator) * count).long().clamp_(max=count - 1)
        return self.answers[self.offsets[rows] + choice].long()

    def positives(self, positions: LongTensor) -> tuple[QueryBatch, LongTensor]:
        """Spell out some pairs of a query and one of its answers.

        :param positions: shape: (n,) positions in :attr:`answers`

        :returns: the queries, and shape: (n,) their answers
        """
        rows = torch.searchsorted(self.offsets, positions, right=True) - 1
        return self.select(rows), self.answers[positions].long()

    def known(self, rows: LongTensor, entities: LongTensor) -> BoolTensor:
        """Tell which candidates are known answers.

        :param rows: shape: (n,) positions in the index
        :param entities: shape: (n, k) or (k,) candidate entities, those of shape (k,) common to all queries

        :returns: shape: (n, k) True where the candidate is a known answer of its query
        """
        count = self.num_answers(rows)
        flat = torch.repeat_interleave(torch.arange(len(rows)), count)
        start = torch.repeat_interleave(self.offsets[rows] - (count.cumsum(dim=0) - count), count)
        answer = self.answers[start + torch.arange(flat.shape[0])].long()
        if entities.ndim == 1:
            # one column for each entity of the pool, and a last one that takes those outside of it
            column = torch.full((self.num_entities,), entities.shape[0], dtype=torch.long)
            column[entities] = torch.arange(entities.shape[0])
            mask = torch.zeros(len(rows), entities.shape[0] + 1, dtype=torch.bool)
            mask[flat, column[answer]] = True
            return mask[:, :-1]
        known_keys = flat * self.num_entities + answer  # sorted, since both parts are
        keys = torch.arange(len(rows))[:, None] * self.num_entities + entities
        position = torch.searchsorted(known_keys, keys).clamp_(max=known_keys.shape[0] - 1)
        return known_keys[position] == keys

    def is_answer(self, rows: LongTensor, entities: LongTensor) -> BoolTensor:
        """Tell whether entities are known answers, each of its own query.

        :param rows: shape: (...) positions in the index, negative ones have no answers
        :param entities: shape: (...) one entity of each

        :returns: shape: (...) True where the entity is a known answer
        """
        low, high = self.offsets[rows.clamp(min=0)], self.offsets[rows.clamp(min=0) + 1]
        last = high
        # a binary search in all rows at once
        while bool((low < high).any()):
            middle = (low + high) // 2
            below = self.answers[middle.clamp(max=len(self.answers) - 1)] < entities
            low, high = torch.where(below & (low < high), middle + 1, low), torch.where(below, high, middle)
        return (rows >= 0) & (low < last) & (self.answers[low.clamp(max=len(self.answers) - 1)] == entities)
