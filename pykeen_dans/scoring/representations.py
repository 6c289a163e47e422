"""The representations of a batch of triples and of its candidates, each of them computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from pykeen.models import ERModel
from pykeen.nn import Embedding, Representation
from pykeen.typing import LABEL_HEAD, LABEL_TAIL, FloatTensor, InductiveMode, LongTensor, MappedTriples, Target

__all__ = [
    "SIDES",
    "Candidates",
    "TripleRepresentations",
    "Vectors",
    "for_each",
]

#: The sides of a triple that can be replaced
SIDES: tuple[Target, Target] = (LABEL_HEAD, LABEL_TAIL)

#: What interactions of PyKEEN take for one position of a triple: one tensor, or several
Vectors: TypeAlias = FloatTensor | Sequence[FloatTensor]


class Candidates(NamedTuple):
    """The ids of candidates for one side of a batch."""

    #: The candidates of all triples, shape: ``(num_shared,)``
    shared: LongTensor
    #: The candidates of each triple, shape: ``(batch_size, num_own)``
    own: LongTensor | None = None
    #: Vectors of no entity, for models with one vector for each entity, shape: ``(batch_size, num_vectors, *dims)``
    vectors: FloatTensor | None = None


def for_each(function: Callable[[FloatTensor], FloatTensor], vectors: Vectors) -> Vectors:
    """Apply a function to the one tensor of a position, or to each of its tensors.

    :param function: the function
    :param vectors: the tensor or tensors

    :returns: the results, in the same form
    """
    if isinstance(vectors, Sequence):
        return [function(vector) for vector in vectors]
    return function(vectors)


class TripleRepresentations:
    """The representations of a batch, and of the candidates for one or both of its sides.

    Regularizers are updated once for heads, relations, tails, and for the candidates of each side, as they are by
    PyKEEN's own training loops. Embeddings are looked up once for all of these: the gradient of each look-up is as
    large as the whole table.
    """

    def __init__(
        self,
        model: ERModel[Any, Any, Any],
        positives: MappedTriples,
        candidates: Mapping[Target, Candidates],
        *,
        mode: InductiveMode | None = None,
    ) -> None:
        """Compute the representations.

        :param model: the model
        :param positives: shape: ``(batch_size, 3)``
            the triples, on the model's device
        :param candidates: the candidates of each side
        :param mode: the inductive mode, or None if the model is transductive
        """
        entities = model._get_entity_representations_from_inductive_mode(mode=mode)
        interaction = model.interaction
        indices = {LABEL_HEAD: interaction.head_indices, LABEL_TAIL: interaction.tail_indices}
        # what is looked up, and in which position
        ids = [positives[:, 0], positives[:, 2]]
        positions: list[Target] = [LABEL_HEAD, LABEL_TAIL]
        for side, choice in candidates.items():
            for more in choice[:2]:
                if more is not None:
                    ids.append(more)
                    positions.append(side)
        found: list[list[FloatTensor]] = [[] for _ in ids]
        # representations of one position come in the order of their indices
        for index, representation in enumerate(entities):
            users = [number for number, position in enumerate(positions) if index in indices[position]]
            for number, vectors in zip(users, _look_up(representation, [ids[n] for n in users]), strict=True):
                found[number].append(vectors)
        heads, tails, *others = map(_normalize, found)
        self._positives: dict[Target, Vectors] = {LABEL_HEAD: heads, LABEL_TAIL: tails}
        remaining = iter(others)
        self._candidates = {
            side: tuple(None if more is None else next(remaining) for more in choice[:2])
            for side, choice in candidates.items()
        }
        self.relation = _normalize(
            [representation(indices=positives[:, 1]) for representation in model.relation_representations]
        )

    def kept(self, side: Target) -> Vectors:
        """Return the representations of the entities that stay, shape: ``(batch_size, *dims)``."""
        return self._positives[LABEL_TAIL if side == LABEL_HEAD else LABEL_HEAD]

    def target(self, side: Target) -> Vectors:
        """Return the representations of the entities of a side, shape: ``(batch_size, *dims)``."""
        return self._positives[side]

    def shared(self, side: Target) -> Vectors:
        """Return the representations of the candidates of all triples, shape: ``(num_shared, *dims)``."""
        shared, _ = self._candidates[side]
        assert shared is not None
        return shared

    def own(self, side: Target) -> Vectors | None:
        """Return the representations of the candidates of each triple, shape: ``(batch_size, num_own, *dims)``."""
        _, own = self._candidates[side]
        return own


def _normalize(vectors: list[FloatTensor]) -> Vectors:
    """Bring one or several representations into the form that interactions take."""
    return vectors[0] if len(vectors) == 1 else vectors


def _look_up(representation: Representation, ids: Sequence[LongTensor]) -> list[FloatTensor]:
    """Compute a representation for several tensors of ids.

    :param representation: the representation
    :param ids: the ids, of different shapes

    :returns: the representations, in the same order
    """
    if len(ids) < 2 or not _is_table(representation):
        return [representation(indices=more) for more in ids]
    flat = representation._plain_forward(indices=torch.cat([more.reshape(-1) for more in ids]))
    parts = [
        part.view(*more.shape, *representation.shape)
        for part, more in zip(flat.split([more.numel() for more in ids]), ids, strict=True)
    ]
    # the rest of what the module does
    if representation.regularizer is not None:
        for part in parts:
            representation.regularizer.update(part)
    return parts if representation.dropout is None else [representation.dropout(part) for part in parts]


def _is_table(representation: Representation) -> bool:
    """Return whether a representation is looked up in a table, without anything that depends on other ids."""
    return (
        isinstance(representation, Embedding)
        and type(representation).forward is Representation.forward
        and type(representation)._plain_forward is Embedding._plain_forward
        and representation.normalizer is None
        and not representation.unique
    )
