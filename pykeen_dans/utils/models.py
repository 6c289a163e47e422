"""Reading a model of PyKEEN while it is being trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

__all__ = [
    "evaluating",
    "forget_cached_vectors",
    "keeping_statistics",
    "not_regularizing",
    "regularizers_of",
]

if TYPE_CHECKING:
    from pykeen.models import Model
    from pykeen.regularizers import Regularizer


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


@contextlib.contextmanager
def keeping_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch normalisation leave its running statistics as they are, by which it evaluates: these are of entities.

    :param module: a model, or a part of one

    :yields: nothing
    """
    from pykeen.utils import get_batchnorm_modules

    kept = [(part, dict(part.named_buffers(recurse=False))) for part in get_batchnorm_modules(module)]
    for part, buffers in kept:
        for name, buffer in buffers.items():
            setattr(part, name, buffer.clone())
    try:
        yield
    finally:
        for part, buffers in kept:
            for name, buffer in buffers.items():
                setattr(part, name, buffer)


def regularizers_of(module: nn.Module) -> list[Regularizer]:
    """List the regularisers that add up what a module computes.

    :param module: a model, or a part of one

    :returns: the regularisers within it, but for those in evaluation mode, which add up nothing
    """
    from pykeen.regularizers import Regularizer

    return [part for part in module.modules() if isinstance(part, Regularizer) and part.training]


@contextlib.contextmanager
def not_regularizing(module: nn.Module) -> Iterator[None]:
    """Let regularisers overlook what a module computes.

    :param module: a model, or a part of one

    :yields: nothing
    """
    active = regularizers_of(module)
    for part in active:
        part.training = False
    try:
        yield
    finally:
        for part in active:
            part.training = True
