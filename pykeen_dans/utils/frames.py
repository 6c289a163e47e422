"""What a sampler or a representation can find out about the training, or the model, that it is made for.

PyKEEN gives a sampler nothing but integer triples, and a representation nothing but their number. Features of entities
come with *labels*, and whoever knows these is one or two calls up the stack: the training loop, or the constructor of
the model. This module reads local variables of their frames, and changes nothing.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from pykeen.triples import CoreTriplesFactory
from pykeen.typing import MappedTriples

from .private import finished_epochs

__all__ = [
    "entity_labels",
    "innermost_local",
    "is_continued",
    "num_epochs_of_training",
    "positives_seen_by_training",
    "shows_progress",
    "training_triples",
    "triples_factory_in_use",
    "within_training",
]

X = TypeVar("X")

#: The method of PyKEEN that has the loop over epochs
_TRAINING = (("pykeen.training.training_loop", "_train"),)
#: The method of PyKEEN's modules of PyTorch Lightning that makes data loaders
_LIGHTNING = (("pykeen.contrib.lightning", "_dataloader"),)

#: The functions of PyKEEN that are given the training triples: the training, and the constructor of a model. The data
#: loader is not among them, since PyKEEN's validation loss makes one of validation triples. The last one is ours.
_OWNERS = (*_TRAINING, ("pykeen.models.nbase", "__init__"), (__name__, "within_training"))


def innermost_local(name: str, kind: type[X], *, functions: Collection[tuple[str | None, str]]) -> X | None:
    """Read a local variable off the innermost frame of one of some functions that (indirectly) call this one.

    :param name: the name of the variable
    :param kind: its type; frames where it is of another one are passed over
    :param functions: pairs of the module (None for any) and the name of a function

    :returns: the value, or None where none of the functions is being executed
    """
    frame = inspect.currentframe()
    while frame is not None:
        function = frame.f_code.co_name
        if (None, function) in functions or (frame.f_globals.get("__name__"), function) in functions:
            value = frame.f_locals.get(name)
            if isinstance(value, kind):
                return value
        frame = frame.f_back
    return None


def triples_factory_in_use() -> CoreTriplesFactory | None:
    """Find the training triples of the training under way, or of the model that is being made.

    :returns: the triples factory, or None outside of both. Of nested trainings it is that of the innermost one.
    """
    return innermost_local("triples_factory", CoreTriplesFactory, functions=_OWNERS)


def within_training(triples_factory: CoreTriplesFactory, make: Callable[[], X]) -> X:
    """Make something outside of a training that finds the training triples as it would within.

    :param triples_factory: the training triples
    :param make: makes it

    :returns: what was made
    """
    return make()


def entity_labels(triples_factory: CoreTriplesFactory | None) -> Mapping[str, int] | None:
    """Get the labels of entities.

    :param triples_factory: a triples factory, if there is one

    :returns: the mapping from labels to ids, or None where there is none, as for triples that have only ever been
        integers
    """
    labels: Any = getattr(triples_factory, "entity_to_id", None)
    return labels


def num_epochs_of_training() -> int | None:
    """Read the number of epochs off the frame of the PyKEEN training that (indirectly) calls this function.

    PyKEEN tells the number of epochs to no callback and to no sampler, and a curriculum needs to know where it ends.
    This reads one local variable of ``TrainingLoop._train``, and changes nothing.

    :returns: the number of epochs, or None outside of a training
    """
    found = innermost_local("num_epochs", int, functions=[(None, "_train")])
    module: Any = innermost_local("self", object, functions=_LIGHTNING)
    # a module tells that it has no trainer (yet) by an error
    with contextlib.suppress(RuntimeError):
        if found is None and module is not None and (module.trainer.max_epochs or 0) > 0:
            found = module.trainer.max_epochs
    return found


def training_triples() -> MappedTriples | None:
    """Find the triples of the training under way, whichever triples a data loader is being made of.

    :returns: shape: (num_triples, 3) the triples, inverse ones included, or None outside of a training
    """
    factory = innermost_local("triples_factory", CoreTriplesFactory, functions=_TRAINING)
    module: Any = innermost_local("self", object, functions=_LIGHTNING)
    if factory is None and module is not None:
        factory = module.dataset.training
    return None if factory is None else factory._add_inverse_triples_if_necessary(factory.mapped_triples)


def is_continued() -> bool:
    """Tell whether the training that (indirectly) calls this function goes on with the weights that there are.

    :returns: whether it does, False outside of a training
    """
    return bool(innermost_local("continue_training", bool, functions=_TRAINING))


def positives_seen_by_training(num_triples: int) -> int:
    """Tell how many positives the training that (indirectly) calls this function has seen, in epochs before this one.

    :param num_triples: the number of training triples, inverse ones included

    :returns: the number, 0 outside of a training
    """
    loop: Any = innermost_local("self", object, functions=_TRAINING)
    if loop is None:
        return 0
    batch_size = innermost_local("batch_size", int, functions=_TRAINING)
    if batch_size is not None and innermost_local("drop_last", bool, functions=_TRAINING):
        num_triples -= num_triples % batch_size
    return finished_epochs(loop) * num_triples


def shows_progress() -> bool:
    """Tell whether the training under way shows progress bars, as it does unless it was told ``use_tqdm=False``.

    :returns: whether it does, which is so outside of a training, too
    """
    # PyKEEN's searches for sizes are trainings within the training, and are not told
    shown = innermost_local("use_tqdm", bool, functions=[("pykeen.training.training_loop", "train")])
    return shown is not False
