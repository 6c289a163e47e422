"""How long a training is going to last."""

from __future__ import annotations

from .surroundings import innermost_local

__all__ = [
    "num_epochs_of_training",
]


def num_epochs_of_training() -> int | None:
    """Read the number of epochs off the frame of the PyKEEN training that (indirectly) calls this function.

    PyKEEN tells the number of epochs to no callback and to no sampler, and a curriculum needs to know where it ends.
    This reads one local variable of ``TrainingLoop._train``, and changes nothing.

    :returns: the number of epochs, or None outside of a training
    """
    return innermost_local("num_epochs", int, functions=[(None, "_train")])
