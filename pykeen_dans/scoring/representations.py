"""The representations of a batch of triples and of its candidates, each of them computed once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from pykeen.models import ERModel
from pykeen.nn import Representation
from pykeen.typing import LABEL_HEAD, LABEL_TAIL, FloatTensor, InductiveMode, LongTensor, MappedTriples, Target

from ..utils.models import keeping_statistics, not_regularizing, regularizers_of
from ..utils.private import entity_representations_of, is_table, look_up

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
    #: The ids that regularizers see in the place of the shared ones, shape: ``(n,)``, None for the shared ones
    representatives: LongTensor | None = None


class _Wanted(NamedTuple):
    """What to look up, for one position of a triple."""

    #: The ids, of any shape
    ids: LongTensor
    position: Target
    #: Whether it is scored
    scored: bool = True
    #: Whether regularizers see it
    regularized: bool = True


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
    PyKEEN's own training loops. Whatever candidates are chosen, all entities have the same part in that: in the place
    of shared ones, regularizers see the representatives, and of a triple's own ones nothing.

    Embeddings are looked up once for all of these: the gradient of each look-up is as large as the whole table.
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
        entities = entity_representations_of(model, mode)
        interaction = model.interaction
        indices = {LABEL_HEAD: interaction.head_indices, LABEL_TAIL: interaction.tail_indices}
        wanted = [_Wanted(positives[:, 0], LABEL_HEAD), _Wanted(positives[:, 2], LABEL_TAIL)]
        for side, choice in candidates.items():
            wanted.append(_Wanted(choice.shared, side, regularized=choice.representatives is None))
            if choice.own is not None:
                wanted.append(_Wanted(choice.own, side, regularized=False))
        seen = {side: choice.representatives for side, choice in candidates.items()}
        wanted += [_Wanted(ids, side, scored=False) for side, ids in seen.items() if ids is not None]
        found: list[list[FloatTensor]] = [[] for _ in wanted]
        # representations of one position come in the order of their indices
        for index, representation in enumerate(entities):
            users = [
                number
                for number, each in enumerate(wanted)
                if index in indices[each.position] and (each.scored or regularizers_of(representation))
            ]
            for number, vectors in zip(users, _look_up(representation, [wanted[n] for n in users]), strict=True):
                found[number].append(vectors)
        heads, tails, *others = map(_normalize, found)
        self._positives: dict[Target, Vectors] = {LABEL_HEAD: heads, LABEL_TAIL: tails}
        remaining = iter(others)
        self._candidates = {
            side: (next(remaining), None if choice.own is None else next(remaining))
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
        return self._candidates[side][0]

    def own(self, side: Target) -> Vectors | None:
        """Return the representations of the candidates of each triple, shape: ``(batch_size, num_own, *dims)``."""
        return self._candidates[side][1]


def _normalize(vectors: list[FloatTensor]) -> Vectors:
    """Bring one or several representations into the form that interactions take."""
    return vectors[0] if len(vectors) == 1 else vectors


def _look_up(representation: Representation, wanted: Sequence[_Wanted]) -> list[FloatTensor]:
    """Compute a representation for several tensors of ids.

    :param representation: the representation
    :param wanted: what to look up, of different shapes

    :returns: the representations, in the same order
    """
    if len(wanted) < 2 or not is_table(representation):
        return [_compute(representation, each) for each in wanted]
    flat = look_up(representation, torch.cat([each.ids.reshape(-1) for each in wanted]))
    parts = [
        part.view(*each.ids.shape, *representation.shape)
        for part, each in zip(flat.split([each.ids.numel() for each in wanted]), wanted, strict=True)
    ]
    # the rest of what the module does
    if representation.regularizer is not None:
        for part, each in zip(parts, wanted, strict=True):
            if each.regularized:
                representation.regularizer.update(part)
    return parts if representation.dropout is None else [representation.dropout(part) for part in parts]


def _compute(representation: Representation, wanted: _Wanted) -> FloatTensor:
    """Compute a representation that depends on more than the rows of a table, and may regularize parts of its own."""
    with contextlib.ExitStack() as stack:
        if not wanted.regularized:
            stack.enter_context(not_regularizing(representation))
        if not wanted.scored:
            # batches of the training are what evaluation normalises by
            stack.enter_context(keeping_statistics(representation))
        vectors: FloatTensor = representation(indices=wanted.ids)
    return vectors
