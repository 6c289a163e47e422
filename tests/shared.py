"""Small training loops with shared negatives, for several tests."""

from __future__ import annotations

from typing import Any

import torch
from pykeen.losses import Loss
from pykeen.models import Model, model_resolver
from pykeen.triples import CoreTriplesFactory
from torch import Tensor

from pykeen_dans import SharedNegativesTrainingLoop

from .utils import training_of

#: The sizes of the smallest graph
NUM_ENTITIES, NUM_TRIPLES = 14, 1592


def make_loop(
    model: str | Model = "distmult",
    factory: CoreTriplesFactory | None = None,
    *,
    cls: type[SharedNegativesTrainingLoop] = SharedNegativesTrainingLoop,
    loss: str | Loss = "crossentropy",
    model_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> SharedNegativesTrainingLoop:
    """Make a loop of a small model, whose pool is a part of the entities."""
    factory = factory or training_of("nations")
    torch.manual_seed(0)
    if not isinstance(model, Model):
        options = {"embedding_dim": 8, "loss": loss, **(model_kwargs or {})}
        if model in {"complex", "distmult"}:
            # it would be a part of losses
            options.update(regularizer="powersum", regularizer_kwargs=dict(weight=0.0))
        model = model_resolver.make(model, options, triples_factory=factory, random_seed=0)
    kwargs = dict(num_shared=6, automatic_memory_optimization=False, optimizer_kwargs=dict(lr=0.02)) | kwargs
    return cls(model=model, triples_factory=factory, **kwargs)


def train(
    loop: SharedNegativesTrainingLoop, factory: CoreTriplesFactory | None = None, *, seed: int = 0, **kwargs: Any
) -> list[float]:
    torch.manual_seed(seed)
    kwargs = dict(num_epochs=3, batch_size=256, use_tqdm=False, pin_memory=False) | kwargs
    losses = loop.train(factory or training_of("nations"), **kwargs)
    assert losses is not None
    return losses


def weights_of(loop: SharedNegativesTrainingLoop) -> Tensor:
    return torch.cat([p.detach().flatten() for p in loop.model.parameters()])


def batches_of(
    loop: SharedNegativesTrainingLoop, factory: CoreTriplesFactory | None = None, **kwargs: Any
) -> list[dict[str, Tensor]]:
    kwargs = dict(sampler=None, batch_size=100, drop_last=False, shuffle=True, pin_memory=False) | kwargs
    return list(loop._create_training_data_loader(factory or training_of("nations"), **kwargs))


def loss_of(
    loop: SharedNegativesTrainingLoop, batch: Any, start: int = 0, stop: int | None = None, **kwargs: Any
) -> Tensor:
    """Compute the loss of a batch, with a pool of its own."""
    value = loop._process_batch(batch, start, len(batch["positives"]) if stop is None else stop, **kwargs)
    return value.squeeze()
