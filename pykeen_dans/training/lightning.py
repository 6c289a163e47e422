"""The curriculum callback for PyKEEN's modules of PyTorch Lightning (:mod:`pykeen.contrib.lightning`).

.. code-block:: python

    from pykeen.contrib.lightning import SLCWALitModule
    from pykeen_dans.training.lightning import CurriculumLightningCallback
    from pytorch_lightning import Trainer

    module = SLCWALitModule(dataset="fb15k237", model="complex", negative_sampler="dans_kgc")
    Trainer(max_epochs=100, callbacks=CurriculumLightningCallback(reproducible=True)).fit(module)

With several processes, there is still one generator: the first process works between epochs, and the others are sent
what has come of it. The first one is also the one that makes what is kept on disk, before the others read it. Each
process draws batches and negatives of its own.

This module needs ``pytorch-lightning``, which is installed with ``pip install pykeen-dans[lightning]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning
import torch
from pykeen.contrib.lightning import SLCWALitModule
from pykeen.trackers import ResultTracker
from pykeen.training import SLCWATrainingLoop

from ..engine.coupling import Coupling
from .callback import CurriculumTrainingCallback

__all__ = [
    "CurriculumLightningCallback",
]


class _ModuleTracker(ResultTracker):
    """Log to the loggers of a module's trainer."""

    def __init__(self, module: pytorch_lightning.LightningModule) -> None:
        """Initialise the tracker."""
        super().__init__()
        self.module = module

    # docstr-coverage: inherited
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None, prefix: str | None = None) -> None:
        # the first process is the only one that has any
        named = {f"{prefix}.{name}" if prefix else name: float(value) for name, value in metrics.items()}
        self.module.log_dict(named, rank_zero_only=True)


class CurriculumLightningCallback(pytorch_lightning.Callback):
    """Couple a generated negative sampler to the model of a module of PyKEEN.

    :param kwargs: as for :class:`~pykeen_dans.training.callback.CurriculumTrainingCallback`, where ``num_epochs`` is
        ``max_epochs`` of the trainer by default. Vectors can be scored (``vector_weight``) by a single process only.

    :raises ValueError: if an argument is invalid
    """

    def __init__(self, **kwargs: Any) -> None:
        """Check the options."""
        super().__init__()
        self.options = kwargs
        self.callback = CurriculumTrainingCallback(**kwargs)
        self._batch: Any = None

    @property
    def coupling(self) -> Coupling:
        """The coupling with the sampler."""
        return self.callback.coupling

    # docstr-coverage: inherited
    def setup(self, trainer: pytorch_lightning.Trainer, pl_module: Any, stage: str) -> None:  # noqa: D102
        if stage != "fit":
            return
        if not isinstance(pl_module, SLCWALitModule):
            raise ValueError(
                f"model={type(pl_module).__name__} draws no negatives; use pykeen.contrib.lightning.SLCWALitModule."
            )
        horizon = self.options.get("num_epochs") or trainer.max_epochs
        if horizon is None or horizon < 1:
            raise ValueError(f"max_epochs={trainer.max_epochs} tells no end of the curriculum; pass num_epochs.")
        self.callback = CurriculumTrainingCallback(**{**self.options, "num_epochs": horizon})
        if self.callback.vector_loss is not None and trainer.world_size > 1:
            raise ValueError(
                f"vector_weight={self.callback.vector_loss.weight} is for a single process, and there are "
                f"{trainer.world_size}; leave it out."
            )
        # it stands for the training, and is never trained itself
        loop = SLCWATrainingLoop(
            model=pl_module.model,
            triples_factory=pl_module.dataset.training,
            negative_sampler=pl_module.negative_sampler,
            negative_sampler_kwargs=pl_module.negative_sampler_kwargs,
            mode=pl_module.mode,
            result_tracker=_ModuleTracker(pl_module),
        )
        self.callback.register_training_loop(loop)
        pl_module.negative_sampler_kwargs = loop.negative_sampler_kwargs
        # what the first process has made, the others find on disk
        if not trainer.is_global_zero:
            trainer.strategy.barrier()
        # the loader of the training comes first, so that the engine is that of its triples
        pl_module.train_dataloader()
        if trainer.is_global_zero:
            trainer.strategy.barrier()

    # docstr-coverage: inherited
    def on_train_start(self, trainer: pytorch_lightning.Trainer, pl_module: Any) -> None:  # noqa: D102
        coupling, callback = self.coupling, self.callback
        if trainer.current_epoch and coupling.engine is not None and coupling.engine.space is None:
            coupling.restore(None)
            callback.fill(coupling.engine)
        coupling.device = pl_module.model.device
        coupling.advance(trainer.current_epoch / callback.horizon)
        if trainer.global_rank:
            # processes of one seed would draw the same batches and negatives
            torch.manual_seed((torch.initial_seed() + trainer.global_rank) % 2**63)

    # docstr-coverage: inherited
    def on_train_batch_start(  # noqa: D102
        self, trainer: pytorch_lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batch = batch
        self.callback.pre_batch()

    # docstr-coverage: inherited
    def on_before_optimizer_step(  # noqa: D102
        self, trainer: pytorch_lightning.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        # gradients are not scaled at this moment, whatever the precision
        self.callback.on_batch(epoch=trainer.current_epoch + 1, batch=self._batch, batch_loss=math.nan)

    # docstr-coverage: inherited
    def on_train_batch_end(  # noqa: D102
        self, trainer: pytorch_lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.callback.post_batch(epoch=trainer.current_epoch + 1, batch=batch)

    # docstr-coverage: inherited
    def on_train_epoch_end(self, trainer: pytorch_lightning.Trainer, pl_module: Any) -> None:  # noqa: D102
        epoch = trainer.current_epoch + 1
        if trainer.is_global_zero:
            self.callback.post_epoch(epoch=epoch, epoch_loss=math.nan)
        if trainer.world_size > 1:
            state = trainer.strategy.broadcast(self.coupling.state_dict() if trainer.is_global_zero else {})
            if not trainer.is_global_zero:
                self.coupling.load_state_dict(state)
                self.coupling.advance(epoch / self.callback.horizon)

    # docstr-coverage: inherited
    def on_train_end(self, trainer: pytorch_lightning.Trainer, pl_module: Any) -> None:  # noqa: D102
        if trainer.is_global_zero:
            self.callback.post_train(losses=[])

    # docstr-coverage: inherited
    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {} if self.coupling.engine is None else self.coupling.state_dict()

    # docstr-coverage: inherited
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        if state_dict and self.coupling.engine is not None and not self.coupling.restore(state_dict):
            self.callback.fill(self.coupling.engine)
