"""What an epoch of MKG-W costs with ``dhns``: RotatE, 256 dimensions, 64 negatives, refits and refreshes included.

Epochs are timed in processor time, which leaves out whatever else the machine does. What is prepared once for a graph
(reference embedding, types, features) is left out.
"""

from __future__ import annotations

import pathlib
import time
from typing import Any

import torch
from pykeen.datasets import get_dataset
from pykeen.losses import NSSALoss
from pykeen.models import RotatE
from pykeen.training import SLCWATrainingLoop
from pykeen.training.callbacks import TrainingCallback

from pykeen_dans.training.callback import CurriculumTrainingCallback

from ..rows import append, environment
from .quality import text_table

__all__ = [
    "execute",
]

FILE = "multimodal-epochs.jsonl"


class Clock(TrainingCallback):
    """Take the processor time from the first batch to the end of each epoch, and of what follows it."""

    def __init__(self) -> None:
        """Initialise the clock."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.started: float | None = None
        self.stopped = 0.0

    def pre_batch(self, **kwargs: Any) -> None:
        """Start the clock."""
        if self.started is None:
            self.started = time.process_time()

    def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
        """Take the time; this callback comes after the one that generates."""
        self.stopped = time.process_time()


def seconds(training: Any, sampler: str, *, epochs: int, sampler_kwargs: dict[str, Any]) -> float:
    """Train, and return the processor time of an epoch."""
    model = RotatE(triples_factory=training, embedding_dim=256, loss=NSSALoss(margin=4.5), random_seed=0)
    loop = SLCWATrainingLoop(
        model=model,
        triples_factory=training,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.03),
        negative_sampler=sampler,
        negative_sampler_kwargs={"num_negs_per_pos": 64, **sampler_kwargs},
    )
    clock = Clock()
    callbacks: list[TrainingCallback] = [clock]
    if sampler != "basic":
        # a curriculum that goes on, by which the last epoch is followed by a refresh, too
        callbacks.insert(0, CurriculumTrainingCallback(num_epochs=20))
    loop.train(
        triples_factory=training,
        num_epochs=epochs,
        batch_size=1024,
        callbacks=callbacks,
        callbacks_kwargs=None,
        use_tqdm=False,
    )
    assert clock.started is not None
    return (clock.stopped - clock.started) / epochs


def execute(folder: pathlib.Path, *, texts: pathlib.Path, epochs: int) -> None:
    """Measure, and append a row.

    :param folder: the folder of the result files
    :param texts: the folder of the tables of texts
    :param epochs: the number of epochs
    """
    training = get_dataset(dataset="MKGW").training
    row: dict[str, Any] = {
        "setting": f"MKG-W, RotatE, d=256, N=64, B=1024, {epochs} epochs, processor seconds of one thread",
        "basic": seconds(training, "basic", epochs=epochs, sampler_kwargs={}),
        "dhns-text": seconds(training, "dhns", epochs=epochs, sampler_kwargs={"modalities": text_table(texts, "mkgw")}),
    }
    row["ratio"] = row["dhns-text"] / row["basic"]
    append(folder / FILE, {**row, **environment("cpu")})
