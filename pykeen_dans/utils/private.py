"""Private members of PyKEEN that are read or called, in one place.

They are those of PyKEEN 1.11.1, which has no public way to any of this. What the classes of this package *override* is
listed in the documentation of the architecture.
"""

# what is needed of PyKEEN is imported late, since it may be half imported by now
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from pykeen.typing import FloatTensor, InductiveMode, LongTensor

__all__ = [
    "entity_representations_of",
    "finished_epochs",
    "has_plain_scores",
    "is_table",
    "look_up",
    "num_entities_of",
    "representations_of",
]

if TYPE_CHECKING:
    from pykeen.models import ERModel, Model
    from pykeen.nn import Embedding, Representation
    from pykeen.training import TrainingLoop


def finished_epochs(training_loop: TrainingLoop[Any]) -> int:
    """Tell how many epochs a training loop has behind it, which is more than none where a training is resumed.

    :param training_loop: the training loop

    :returns: the number of epochs
    """
    return training_loop._epoch


def num_entities_of(model: Model, mode: InductiveMode | None) -> int:
    """Tell how many entities a model knows, which differs between training and inference in inductive settings.

    :param model: the model
    :param mode: the inductive mode, or None if the model is transductive

    :returns: the number of entities
    """
    return model._get_entity_len(mode=mode)


def entity_representations_of(model: ERModel[Any, Any, Any], mode: InductiveMode | None) -> Sequence[Representation]:
    """Get the representations of entities, which differ between training and inference in inductive settings.

    :param model: the model
    :param mode: the inductive mode, or None if the model is transductive

    :returns: the representations
    """
    return model._get_entity_representations_from_inductive_mode(mode=mode)


def representations_of(model: ERModel[Any, Any, Any], triples: LongTensor) -> tuple[Any, Any, Any]:
    """Look up the vectors of heads, relations and tails, as the model's own scores do.

    :param model: the model
    :param triples: shape: (..., 3)

    :returns: what the model's interaction takes for heads, relations and tails
    """
    head, relation, tail = triples.unbind(dim=-1)
    return model._get_representations(h=head, r=relation, t=tail, mode=None)


def has_plain_scores(model: Model) -> TypeGuard[ERModel[Any, Any, Any]]:
    """Tell whether scores of a model are what its interaction makes of its representations, and nothing else.

    :param model: the model

    :returns: whether it overrides nothing that makes them
    """
    from pykeen.models import ERModel

    return isinstance(model, ERModel) and all(
        getattr(type(model), name) is getattr(ERModel, name) for name in ("score_t", "score_h", "_get_representations")
    )


def is_table(representation: Representation) -> TypeGuard[Embedding]:
    """Tell whether a representation is looked up in a table, without anything that depends on other ids.

    :param representation: the representation

    :returns: whether it is, so that :func:`look_up` can be used
    """
    from pykeen.nn import Embedding, Representation

    return (
        isinstance(representation, Embedding)
        and type(representation).forward is Representation.forward
        and type(representation)._plain_forward is Embedding._plain_forward
        and representation.normalizer is None
        and not representation.unique
    )


def look_up(table: Embedding, ids: LongTensor) -> FloatTensor:
    """Look up rows of an embedding, without regularization and dropout.

    :param table: the embedding
    :param ids: shape: (n,)

    :returns: shape: (n, *dims)
    """
    return table._plain_forward(indices=ids)
