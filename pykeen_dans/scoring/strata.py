r"""Candidates of one query each, beside those that all queries share, without any of them counting twice.

The sum over all entities but the answer is cut into strata: the candidates of the query, and the rest, which the pool
estimates. Whatever chooses a query's own candidates, be it good or bad, and even if it knows the scores: the target
stays the same, and only the variance depends on it. The one condition is that it does not look at the pool.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from pykeen.typing import BoolTensor, FloatTensor, LongTensor

from .proposals import Pool

__all__ = [
    "CandidateWeights",
    "OwnCandidates",
    "weigh_candidates",
]


@dataclasses.dataclass(frozen=True)
class OwnCandidates:
    """Candidates of one query each.

    Without weights, each distinct one of the candidates counts once, so that they are a stratum in themselves. With
    weights, they are draws from a stratum, which has to be told as well, since the pool must not count its members.
    """

    #: The ids, shape: ``(batch_size, num_own)``, where -1 stands for none
    ids: LongTensor

    #: The logarithm of the number of entities of the stratum that each draw stands for, for instance that of its size
    #: divided by the number of draws. Shape: ``(batch_size, num_own)``
    log_weights: FloatTensor | None = None

    #: The distinct members of the stratum of which the ids are draws, shape: ``(batch_size, stratum_size)``, where -1
    #: stands for none. Default: the ids
    stratum: LongTensor | None = None

    def __post_init__(self) -> None:
        """Check that the parts belong together.

        :raises ValueError: if they do not
        """
        if self.ids.ndim != 2:
            raise ValueError(f"ids has shape {tuple(self.ids.shape)}, but needs shape (batch_size, num_own).")
        if (self.log_weights is None) != (self.stratum is None):
            raise ValueError(
                "log_weights and stratum belong together: leave both out for candidates that count once each, or pass "
                "both for draws from a stratum."
            )
        if self.log_weights is not None and self.log_weights.shape != self.ids.shape:
            raise ValueError(
                f"log_weights has shape {tuple(self.log_weights.shape)}, but needs that of ids, "
                f"{tuple(self.ids.shape)}."
            )

    def rows(self, part: slice) -> OwnCandidates:
        """Return the candidates of some of the queries."""
        return OwnCandidates(
            ids=self.ids[part],
            log_weights=None if self.log_weights is None else self.log_weights[part],
            stratum=None if self.stratum is None else self.stratum[part],
        )


class CandidateWeights(NamedTuple):
    """What the candidates of each query stand for; those that do not count are masked."""

    #: The logarithm of the weights of the shared candidates, shape: ``(num_shared,)``
    shared: FloatTensor
    #: Which of the shared candidates do not count, shape: ``(batch_size, num_shared)``
    shared_mask: BoolTensor
    #: The logarithm of the weights of the query's own candidates, shape: ``(batch_size, num_own)``
    own: FloatTensor | None = None
    #: Which of the query's own candidates do not count, shape: ``(batch_size, num_own)``
    own_mask: BoolTensor | None = None


def weigh_candidates(answers: LongTensor, pool: Pool, own: OwnCandidates | None = None) -> CandidateWeights:
    """Find out what each candidate stands for, such that all entities but the answer count once in expectation.

    :param answers: shape: ``(batch_size,)``
        the entities that answer the queries
    :param pool: the candidates that all queries share
    :param own: the candidates of each query

    :returns: the weights, and masks of the candidates that do not count
    """
    answers = answers.unsqueeze(dim=-1)
    if own is None:
        return CandidateWeights(shared=pool.log_weights, shared_mask=_is_among(pool, answers))
    stratum = own.ids if own.stratum is None else own.stratum
    own_mask = (own.ids == answers) | (own.ids < 0)
    log_weights = own.log_weights
    if log_weights is None:
        log_weights = torch.zeros(own.ids.shape, dtype=pool.log_weights.dtype, device=own.ids.device)
        own_mask = own_mask | _is_repeated(own.ids)
    return CandidateWeights(
        shared=pool.log_weights,
        shared_mask=_is_among(pool, torch.cat([answers, stratum], dim=-1)),
        own=log_weights,
        own_mask=own_mask,
    )


def _is_repeated(ids: LongTensor) -> BoolTensor:
    """Return for each id of a row whether the row has it further left, shape: ``(batch_size, num_ids)``."""
    values, order = ids.sort(dim=-1, stable=True)
    repeated = torch.zeros_like(ids, dtype=torch.bool)
    repeated[:, 1:] = values[:, 1:] == values[:, :-1]
    return torch.zeros_like(repeated).scatter_(dim=-1, index=order, src=repeated)


def _is_among(pool: Pool, others: LongTensor) -> BoolTensor:
    """Return for each row which ids of the pool are among the others of the row.

    :param pool: the pool
    :param others: shape: ``(batch_size, num_others)``
        the other ids

    :returns: shape: ``(batch_size, num_shared)``
    """
    if others.shape[1] == 1 and not pool.distinct:
        # what searching has to do for ids that come twice takes longer than comparing
        return pool.ids == others
    # searching costs the logarithm of the size of the pool for each of the others, comparing all pairs its size
    values, order = pool.ids.sort()
    size = len(values)
    found = torch.searchsorted(values, others.contiguous()).clamp_max_(size - 1)
    # what is not found goes to an additional column
    place = torch.where(values[found] == others, order[found] if pool.distinct else found, size)
    mask = torch.zeros((len(others), size + 1), dtype=torch.bool, device=others.device)
    mask.scatter_(dim=-1, index=place, value=True)
    # the search ends at the first of equal ids, which stands for all of them
    return (
        mask[:, :size]
        if pool.distinct
        else mask.gather(1, torch.searchsorted(values, pool.ids).expand(len(others), -1))
    )
