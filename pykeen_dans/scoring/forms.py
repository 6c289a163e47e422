"""What a query form is, and the two that work for whole families of interactions: bilinear ones, and all others."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import torch
from pykeen.nn.modules import Interaction
from pykeen.typing import LABEL_HEAD, FloatTensor, Target
from torch.utils.checkpoint import checkpoint

from .representations import Vectors, for_each

__all__ = [
    "BilinearForm",
    "BroadcastForm",
    "QueryForm",
    "Terms",
    "TransformedForm",
]

#: Vectors, whose products are scores, and what is to be added to them: shapes ``(*dims, dim)``, and ``dims`` or None
Terms: TypeAlias = tuple[FloatTensor, FloatTensor | None]


class QueryForm(ABC):
    """How one interaction scores the candidates of one side.

    The query of a triple is what its kept entity and its relation say, computed once for all of its candidates.
    """

    #: The name of the form, for tables
    name: ClassVar[str]

    @abstractmethod
    def query(self, kept: Vectors, relation: Vectors) -> Any:
        """Prepare queries.

        :param kept: shape: ``(batch_size, *dims)``
            the representations of the kept entities
        :param relation: shape: ``(batch_size, *dims)``
            the representations of the relations

        :returns: what the other methods take
        """
        raise NotImplementedError

    @abstractmethod
    def score_shared(self, query: Any, entities: Vectors) -> FloatTensor:
        """Score candidates that all queries share.

        :param query: the queries
        :param entities: shape: ``(num_candidates, *dims)``
            the representations of the candidates

        :returns: shape: ``(batch_size, num_candidates)``
            the scores, which nothing else refers to
        """
        raise NotImplementedError

    @abstractmethod
    def score_own(self, query: Any, entities: Vectors) -> FloatTensor:
        """Score candidates that belong to one query each.

        :param query: the queries
        :param entities: shape: ``(batch_size, num_candidates, *dims)``
            the representations of the candidates

        :returns: shape: ``(batch_size, num_candidates)``
            the scores
        """
        raise NotImplementedError

    def score_slices(self, query: Any, entities: Vectors, slice_size: int) -> FloatTensor:
        """Score candidates that all queries share, some of them at a time.

        :param query: the queries
        :param entities: shape: ``(num_candidates, *dims)``
            the representations of the candidates
        :param slice_size: the number of candidates to score at a time

        :returns: shape: ``(batch_size, num_candidates)``
            the scores
        """
        first = entities if isinstance(entities, torch.Tensor) else entities[0]
        return torch.cat(
            [
                self._score_slice(query, for_each(operator.itemgetter(slice(start, start + slice_size)), entities))
                for start in range(0, len(first), slice_size)
            ],
            dim=-1,
        )

    def _score_slice(self, query: Any, entities: Vectors) -> FloatTensor:
        """Score one slice of candidates."""
        return self.score_shared(query, entities)


class BroadcastForm(QueryForm):
    """PyKEEN's own scores, by broadcasting: it works for every interaction, and costs a vector for each score."""

    name: ClassVar[str] = "broadcast"

    def __init__(self, interaction: Interaction[Any, Any, Any], side: Target) -> None:
        """Initialize the form.

        :param interaction: the interaction
        :param side: the side of the candidates
        """
        self.interaction = interaction
        self.side = side

    def query(self, kept: Vectors, relation: Vectors) -> Any:  # noqa: D102
        return kept, relation

    def score_shared(self, query: Any, entities: Vectors) -> FloatTensor:  # noqa: D102
        return self._interact(query, for_each(lambda x: x.unsqueeze(dim=0), entities))

    def score_own(self, query: Any, entities: Vectors) -> FloatTensor:  # noqa: D102
        return self._interact(query, entities)

    def _interact(self, query: Any, entities: Vectors) -> FloatTensor:
        kept, relation = (for_each(lambda x: x.unsqueeze(dim=1), vectors) for vectors in query)
        if self.side == LABEL_HEAD:
            return self.interaction(h=entities, r=relation, t=kept)
        return self.interaction(h=kept, r=relation, t=entities)

    def _score_slice(self, query: Any, entities: Vectors) -> FloatTensor:
        # what a slice needs for its gradients is as large as what slices are there to avoid, hence it is made again
        return checkpoint(self.score_shared, query, entities, use_reentrant=False)


class BilinearForm(QueryForm):
    """Scores that are the product of a vector of the query and a vector of the candidate, and terms of each of them."""

    name: ClassVar[str] = "bilinear"

    def __init__(
        self,
        query: Callable[[Any, Any], Terms],
        candidate: Callable[[Any], Terms],
    ) -> None:
        """Initialize the form.

        :param query: from the representations of kept entity and relation to the terms of the query
        :param candidate: from the representations of the candidates to their terms
        """
        self._query = query
        self._candidate = candidate

    def query(self, kept: Vectors, relation: Vectors) -> Terms:  # noqa: D102
        return self._query(kept, relation)

    def score_shared(self, query: Terms, entities: Vectors) -> FloatTensor:  # noqa: D102
        vectors, offset = query
        other_vectors, other_offset = self._candidate(entities)
        scores = vectors @ other_vectors.t()
        if offset is not None:
            scores = scores + offset.unsqueeze(dim=-1)
        return scores if other_offset is None else scores + other_offset

    def score_own(self, query: Terms, entities: Vectors) -> FloatTensor:  # noqa: D102
        vectors, offset = query
        other_vectors, other_offset = self._candidate(entities)
        if other_vectors.shape[1] == 1:
            # products of many matrices have a cost for each of them
            scores = (other_vectors * vectors.unsqueeze(dim=1)).sum(dim=-1)
        else:
            scores = (other_vectors @ vectors.unsqueeze(dim=-1)).squeeze(dim=-1)
        if offset is not None:
            scores = scores + offset.unsqueeze(dim=-1)
        return scores if other_offset is None else scores + other_offset


class TransformedForm(QueryForm):
    """The scores of another form, each of them transformed."""

    def __init__(self, base: QueryForm, transform: Callable[[FloatTensor], FloatTensor]) -> None:
        """Initialize the form.

        :param base: the other form
        :param transform: what happens to each score
        """
        self.base = base
        self.transform = transform
        # the transformation costs next to nothing, so that the form is what the other one is
        self.name = base.name  # type: ignore[misc]

    def query(self, kept: Vectors, relation: Vectors) -> Any:  # noqa: D102
        return self.base.query(kept, relation)

    def score_shared(self, query: Any, entities: Vectors) -> FloatTensor:  # noqa: D102
        return self.transform(self.base.score_shared(query, entities))

    def score_own(self, query: Any, entities: Vectors) -> FloatTensor:  # noqa: D102
        return self.transform(self.base.score_own(query, entities))

    def _score_slice(self, query: Any, entities: Vectors) -> FloatTensor:
        return self.transform(self.base._score_slice(query, entities))
