"""Reading a model of PyKEEN while it is being trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

__all__ = [
    "evaluating",
    "forget_cached_vectors",
]

if TYPE_CHECKING:
    from pykeen.models import Model


def forget_cached_vectors(model: Model) -> None:
    """Make encoders, as that of RGCN, compute their vectors anew; they keep them until the next optimiser step.

    :param model: the model
    """
    # imported late, since this module is imported while PyKEEN may be half imported
    from pykeen.nn import Embedding
    from pykeen.regularizers import Regularizer

    for module in model.modules():
        # embeddings keep nothing, and regularisers would lose their term
        if module is not model and not isinstance(module, Embedding | Regularizer):
            getattr(module, "post_parameter_update", int)()


@contextlib.contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Read a model between two steps of its training: in evaluation mode, without gradients, and leaving no trace.

    :param model: the model

    :yields: nothing
    """
    training = model.training
    model.eval()
    forget_cached_vectors(model)
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
        # vectors without gradients would cut the encoder off from the next training step
        forget_cached_vectors(model)
