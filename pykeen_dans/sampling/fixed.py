"""Negatives that somebody has chosen, read from a table."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import pandas as pd
import torch
from docdata import parse_docdata
from pykeen.sampling import NegativeSampler
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import LABEL_TAIL, BoolTensor, LongTensor, MappedTriples, Target

from ..graph import HEAD, TAIL
from ..utils.frames import triples_factory_in_use
from ..utils.logs import warn_once
from ..utils.tables import read_table
from ..utils.triples import labels_of, labels_to_ids
from ..utils.validation import validate_at_least
from .sides import sides_in_turn, validate_corruption_scheme

__all__ = [
    "FixedNegativeSampler",
]

logger = logging.getLogger(__name__)

_SIDES = {"head": HEAD, "tail": TAIL}
#: What stands for a side that is left open
_OPEN = -1
#: A row of the table: the ids of the positive, of which one may be open, the side, and the negative
_HEAD, _RELATION, _TAIL, _SIDE, _NEGATIVE = range(5)


@parse_docdata
class FixedNegativeSampler(NegativeSampler):
    """A sampler whose negatives come from a table, topped up by uniform ones.

    The table has the columns ``head``, ``relation``, ``tail``, ``side`` and ``negative``. Each row is a negative of one
    positive: the entity that takes the place of its head or tail. With the filled side left empty, it is one of all
    positives that share the query, and ``side`` may be left out. Further columns are ignored, so that what
    :func:`pykeen_dans.inspection.negatives_frame` gives can be read as it is, and so can what it has written:

    .. code-block:: python

        negatives_frame(result).to_csv("negatives.csv", index=False)
        pipeline(
            dataset="Nations",
            model="ComplEx",
            negative_sampler="fixed",
            negative_sampler_kwargs=dict(negatives="negatives.csv", num_negs_per_pos=8),
        )

    Where a positive has more negatives than are asked for, a random run of them is taken; where it has fewer, all of
    them are, and the others are uniform. With inverse triples, a negative head of a triple is a negative tail of its
    inverse.

    :param mapped_triples: shape: (num_triples, 3) the training triples
    :param negatives: the path of the table (``.csv``, ``.tsv`` or ``.parquet``), or a data frame; with the labels of
        the training triples, or with ids where these have no labels
    :param corruption_scheme: the sides of the uniform negatives, among ``"head"`` and ``"tail"``, default: both, and
        tails alone where there are inverse triples
    :param triples_factory: the training triples with their labels, default: those of the training under way
    :param kwargs: the parameters of :class:`pykeen.sampling.NegativeSampler`

    :raises ValueError: if there is no such table, or if it has unknown labels, which are named

    ---
    name: Fixed
    """

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        negatives: Any,
        corruption_scheme: Collection[Target] | None = None,
        triples_factory: CoreTriplesFactory | None = None,
        **kwargs: Any,
    ) -> None:
        """Read the table."""
        super().__init__(mapped_triples=mapped_triples, **kwargs)
        validate_at_least("num_negs_per_pos", self.num_negs_per_pos, 1)
        factory = triples_factory or triples_factory_in_use()
        inverse = factory is not None and factory.create_inverse_triples
        if corruption_scheme is None and inverse:
            corruption_scheme = (LABEL_TAIL,)
        self.sides = validate_corruption_scheme(corruption_scheme)
        if (self.num_entities * self.num_relations) * self.num_entities >= 2**63:
            raise ValueError(
                f"num_entities={self.num_entities} and num_relations={self.num_relations} give more triples than "
                f"64-bit keys can tell apart; remove unused entities or relations."
            )
        rows = self._rows(read_table("negatives", negatives), factory)
        if inverse:
            rows = _inverted(rows)
        # those of triples, of queries for tails, and of queries for heads, one list after the other
        kinds = [(rows[:, _HEAD] >= 0) & (rows[:, _TAIL] >= 0), rows[:, _TAIL] < 0, rows[:, _HEAD] < 0]
        keys = [key[kind] for key, kind in zip(self._keys(rows), kinds, strict=True)]
        orders = [each.argsort(stable=True) for each in keys]
        self._known = [key[order] for key, order in zip(keys, orders, strict=True)]
        chosen = torch.cat([rows[kind][order] for kind, order in zip(kinds, orders, strict=True)])
        self._entities, self._at = chosen[:, _NEGATIVE], chosen[:, _SIDE]
        self._starts = [0, len(keys[0]), len(keys[0]) + len(keys[1])]
        self._warn_of_unknown(mapped_triples)

    def _rows(self, table: pd.DataFrame, factory: CoreTriplesFactory | None) -> LongTensor:
        """Translate the table into ids, shape: (n, 5)."""
        if missing := [name for name in ("head", "relation", "tail", "negative") if name not in table]:
            raise ValueError(
                f"negatives has no column {missing[0]!r}, but {', '.join(map(str, table.columns))}; give head, "
                f"relation, tail, side and negative, as negatives_frame(...) does."
            )
        if table.empty:
            raise ValueError("negatives has no rows; give at least one negative, or use negative_sampler='basic'.")
        entities, relations = (None, None) if factory is None else labels_of(factory)
        num_relations = self.num_relations if factory is None else factory.real_num_relations
        columns = {}
        for name in ("head", "tail"):
            is_open = table[name].isna() | (table[name].astype(str) == "")
            columns[name] = torch.full((len(table),), _OPEN)
            columns[name][torch.from_numpy(~is_open.to_numpy(copy=True))] = labels_to_ids(
                f"negatives[{name!r}]", table[name][~is_open], entities, kind="entity", number=self.num_entities
            )
        return torch.stack(
            [
                columns["head"],
                labels_to_ids(
                    "negatives['relation']", table["relation"], relations, kind="relation", number=num_relations
                ),
                columns["tail"],
                _sides(table, columns["head"] < 0, columns["tail"] < 0),
                labels_to_ids(
                    "negatives['negative']", table["negative"], entities, kind="entity", number=self.num_entities
                ),
            ],
            dim=-1,
        )

    def _keys(self, triples: LongTensor) -> tuple[LongTensor, LongTensor, LongTensor]:
        """Combine the parts of triples, and of their queries for tails and heads, into keys, shape: (n,) each."""
        head, relation, tail = (triples[:, position] for position in (_HEAD, _RELATION, _TAIL))
        of_tail = head * self.num_relations + relation
        return of_tail * self.num_entities + tail, of_tail, relation * self.num_entities + tail

    def _find(self, triples: MappedTriples) -> tuple[LongTensor, LongTensor]:
        """Find the lists of triples, shape: (3, n) where each list begins, and how long it is."""
        starts, counts = [], []
        for known, begin, keys in zip(self._known, self._starts, self._keys(triples), strict=True):
            low, high = torch.searchsorted(known, keys), torch.searchsorted(known, keys, right=True)
            starts.append(begin + low)
            counts.append(high - low)
        return torch.stack(starts), torch.stack(counts)

    def _warn_of_unknown(self, mapped_triples: MappedTriples) -> None:
        """Say that there are rows of no training triple."""
        used = torch.zeros(len(self._entities), dtype=torch.bool)
        for known, begin, keys in zip(self._known, self._starts, self._keys(mapped_triples), strict=True):
            used[begin : begin + len(known)] = torch.isin(known, keys)
        if not used.any():
            raise ValueError("negatives has no row that belongs to a training triple or to one of its queries.")
        if not used.all():
            warn_once(
                logger,
                "%d of %d negatives belong to no training triple, and are not used.",
                int((~used).sum()),
                len(used),
            )

    def _take(self, triples: MappedTriples, position: LongTensor) -> tuple[LongTensor, LongTensor, BoolTensor]:
        """Take negatives of triples.

        :param triples: shape: (n, 3)
        :param position: shape: (n, k) positions among all negatives of a triple, beyond the last one for none

        :returns: shape: (n, k) the entities, their sides, and whether there is one that differs from the positive
        """
        starts, counts = self._find(triples)
        ends = counts.cumsum(dim=0)
        # which of the three lists, and where in it
        which = sum((position >= end[:, None]).long() for end in ends[:-1])
        before = torch.cat([torch.zeros_like(ends[:1]), ends[:-1]])
        index = starts.T.gather(1, which) + position - before.T.gather(1, which)
        index = index.clamp(max=len(self._entities) - 1)
        entities, sides = self._entities[index], self._at[index]
        original = torch.where(sides == HEAD, triples[:, :1], triples[:, 2:])
        return entities, sides, (position < ends[-1][:, None]) & (entities != original)

    def listed(self, triples: MappedTriples, side: int) -> LongTensor:
        """List all negatives of triples that the table has.

        :param triples: shape: (n, 3)
        :param side: the side

        :returns: shape: (n, k) entity ids, in the order of the table, -1 for none
        """
        _, counts = self._find(triples)
        length = int(counts.sum(dim=0).max()) if len(triples) else 0
        entities, sides, present = self._take(triples, torch.arange(length).expand(len(triples), -1))
        return torch.where(present & (sides == side), entities, -1)

    # docstr-coverage: inherited
    def corrupt_batch(self, positive_batch: LongTensor) -> LongTensor:  # noqa: D102
        return self.corrupt_and_tell(positive_batch)[0]

    def corrupt_and_tell(self, positive_batch: LongTensor) -> tuple[LongTensor, BoolTensor]:
        """Make negatives, and tell which of them come from the table.

        :param positive_batch: shape: (..., 3) the positives

        :returns: shape: (..., num_negs_per_pos, 3) the negatives, and shape: (n, num_negs_per_pos) those of the table
        """
        positives = positive_batch.reshape(-1, 3).cpu()
        shape = (len(positives), self.num_negs_per_pos)
        corrupts_head = torch.tensor(self.sides)[sides_in_turn(shape, len(self.sides))] == HEAD
        original = torch.where(corrupts_head, positives[:, :1], positives[:, 2:])
        uniform = torch.randint(self.num_entities - 1, size=shape)
        # skip the original entity
        uniform += uniform >= original
        total = self._find(positives)[1].sum(dim=0)[:, None]
        # neighbours in the table, from a random one on, and from the last one on to the first
        steps = torch.arange(shape[1])
        position = (torch.rand(len(positives), 1) * total).long() + steps
        position = torch.where(steps < total, position % total.clamp(min=1), total)
        entities, sides, usable = self._take(positives, position)
        entities = torch.where(usable, entities, uniform)
        replaces_head = torch.where(usable, sides == HEAD, corrupts_head)
        negatives = positives[:, None].repeat(1, shape[1], 1)
        negatives[..., 0] = torch.where(replaces_head, entities, negatives[..., 0])
        negatives[..., 2] = torch.where(replaces_head, negatives[..., 2], entities)
        return negatives.view(*positive_batch.shape[:-1], shape[1], 3).to(positive_batch.device), usable


def _sides(table: pd.DataFrame, open_head: BoolTensor, open_tail: BoolTensor) -> LongTensor:
    """Read the sides of a table, or see them from what is left open, shape: (n,)."""
    if bool((open_head & open_tail).any()):
        raise ValueError("negatives has rows in which head and tail are both empty; leave only the filled side empty.")
    seen = torch.where(open_head, HEAD, TAIL)
    if "side" not in table:
        if bool((~open_head & ~open_tail).any()):
            raise ValueError("negatives has no column 'side', which rows with head and tail need: 'head' or 'tail'.")
        return seen
    named = table["side"].map(_SIDES)
    if bool((wrong := named.isna()).any()):
        raise ValueError(f"negatives['side'] has {table['side'][wrong].iloc[0]!r}; write 'head' or 'tail'.")
    sides = torch.as_tensor(named.to_numpy(dtype="int64", copy=True))
    if bool(((open_head | open_tail) & (sides != seen)).any()):
        raise ValueError("negatives has rows whose side is not the one that is left empty; leave 'side' out for these.")
    return sides


def _inverted(rows: LongTensor) -> LongTensor:
    """Write all rows as negative tails: of relation ``2 r`` where they are, and of its inverse where they are heads."""
    rows = rows.clone()
    rows[:, _RELATION] *= 2
    heads = rows[:, _SIDE] == HEAD
    rows[heads] = rows[heads][:, [_TAIL, _RELATION, _HEAD, _SIDE, _NEGATIVE]]
    rows[heads, _RELATION] += 1
    rows[:, _SIDE] = TAIL
    return rows
