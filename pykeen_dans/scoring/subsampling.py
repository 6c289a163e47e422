"""Weights of queries by their frequency, by which frequent ones count less.

Models that are trained on all triples alike spend most of what they learn on the few queries with many answers. What
word2vec does by leaving out occurrences of frequent words [Mikolov2013]_, embedding models do by weights
[Sun2019]_; [Kamigaito2022]_ compare ways to count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from pykeen.typing import LABEL_HEAD, LABEL_TAIL, FloatTensor, LongTensor, MappedTriples, Target

from ..utils.validation import validate_between, validate_choice

__all__ = [
    "SUBSAMPLINGS",
    "Subsampling",
    "query_weights",
]

#: How queries are counted
Subsampling: TypeAlias = Literal["none", "frequency", "unique"]
SUBSAMPLINGS: tuple[Subsampling, ...] = ("none", "frequency", "unique")

#: The columns of the query of each side
_QUERY_COLUMNS: dict[Target, tuple[int, int]] = {LABEL_HEAD: (2, 1), LABEL_TAIL: (0, 1)}


def query_weights(
    mapped_triples: MappedTriples, *, sides: Sequence[Target], subsampling: Subsampling, power: float = 0.5
) -> FloatTensor | None:
    """Weigh the queries of training triples by a negative power of their counts.

    :param mapped_triples: shape: ``(num_triples, 3)``
        the training triples
    :param sides: the sides that are replaced, and whose queries are the rest of the triple
    :param subsampling: ``"unique"`` counts how often a query occurs, ``"frequency"`` adds up the counts of both queries
        of a triple, which estimates how frequent the triple is [Sun2019]_, and ``"none"`` counts nothing
    :param power: the power, where .5 is the usual one

    :returns: shape: ``(num_triples, num_sides)``
        the weights, whose mean is one on each side, or None

    :raises ValueError: if a value is invalid, or if there are no triples to count
    """
    validate_choice("subsampling", subsampling, SUBSAMPLINGS)
    validate_between("subsampling_power", power, 0, 10)
    if subsampling == "none":
        return None
    if not len(mapped_triples):
        raise ValueError(
            f"subsampling={subsampling!r} has no training triples to count; use subsampling='none', or pass triples."
        )
    counts = {side: _counts(mapped_triples[:, columns]) for side, columns in _QUERY_COLUMNS.items()}
    if subsampling == "frequency":
        both = counts[LABEL_HEAD] + counts[LABEL_TAIL]
        counts = dict.fromkeys(counts, both)
    weights = torch.stack([counts[side].to(torch.get_default_dtype()) ** -power for side in sides], dim=-1)
    return weights / weights.mean(dim=0)


def _counts(queries: LongTensor) -> LongTensor:
    """Count how often each query occurs, shape: ``(num_triples,)``."""
    _, inverse, counts = queries.unique(dim=0, return_inverse=True, return_counts=True)
    return counts[inverse]
