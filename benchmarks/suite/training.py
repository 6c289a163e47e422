"""Trainings that take turns: what the parts on time, cost and scale have in common."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import resource
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from pykeen.pipeline import pipeline
from pykeen.training import TrainingLoop
from pykeen.training.callbacks import TrainingCallback

from pykeen_dans.inspection.curve import ValidationCurveTrainingCallback

from . import data
from .configurations import Setting, configuration_to_run
from .interleave import Turns
from .quality import callbacks_of
from .rows import environment

__all__ = [
    "EpochClock",
    "TakingTurns",
    "empty_cache",
    "peak_memory_mib",
    "quiet",
    "train_with_curve",
]


def quiet() -> None:
    """Keep off the screen what PyKEEN logs and warns of."""
    for name in ("pykeen", "torch_max_mem", "pykeen_dans"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    warnings.filterwarnings("ignore", message=".*always shuffled.*")


def peak_memory_mib() -> float:
    """Tell the largest resident memory that this process has had.

    :returns: MiB
    """
    status = pathlib.Path("/proc/self/status")
    if status.is_file():
        # not getrusage: under Linux, a process begins with the peak of the one that started it
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    # in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class TakingTurns(ValidationCurveTrainingCallback):
    """Measure the validation curve, and wait after each epoch, off the clock, until it is this training's turn.

    :param turns: where to wait
    :param kwargs: see :class:`pykeen_dans.inspection.curve.ValidationCurveTrainingCallback`
    """

    def __init__(self, *, turns: Turns, **kwargs: Any) -> None:
        """Initialise the callback."""
        super().__init__(**kwargs)
        self.turns = turns

    # docstr-coverage: inherited
    def register_training_loop(self, training_loop: TrainingLoop[Any]) -> None:  # noqa: D102
        # before the clock starts
        self.turns.wait(0.0)
        super().register_training_loop(training_loop)

    # docstr-coverage: inherited
    def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:  # noqa: D102
        super().post_epoch(epoch, epoch_loss, **kwargs)
        paused = time.perf_counter()
        self.turns.wait(paused - self._started)
        self._started += time.perf_counter() - paused


class EpochClock(TrainingCallback):
    """Note the seconds of each epoch, and of all that comes before the first one, and take turns.

    :param turns: where to wait
    """

    def __init__(self, turns: Turns) -> None:
        """Initialise the callback."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.turns = turns
        #: what the sampler needs before the first batch, and the data loader with it
        self.setup_seconds = 0.0
        self.epoch_seconds: list[float] = []
        #: at the end of the training, before anything is evaluated
        self.peak_memory_mib = 0.0
        self._started = 0.0
        self._first = True

    # docstr-coverage: inherited
    def register_training_loop(self, training_loop: TrainingLoop[Any]) -> None:  # noqa: D102
        super().register_training_loop(training_loop)
        self.turns.wait(0.0)
        self._started = time.perf_counter()

    # docstr-coverage: inherited
    def pre_batch(self, **kwargs: Any) -> None:  # noqa: D102
        if self._first:
            self._first = False
            now = time.perf_counter()
            self.setup_seconds = now - self._started
            self._started = now

    # docstr-coverage: inherited
    def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:  # noqa: D102
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.epoch_seconds.append(time.perf_counter() - self._started)
        self.turns.wait(self.setup_seconds + sum(self.epoch_seconds))
        self._started = time.perf_counter()

    # docstr-coverage: inherited
    def post_train(self, losses: list[float], **kwargs: Any) -> None:  # noqa: D102
        self.peak_memory_mib = peak_memory_mib()


@contextlib.contextmanager
def empty_cache() -> Iterator[None]:
    """Hide what earlier trainings have left on disk, so that whatever is made once is on the clock.

    Data sets are in the same cache, and must be loaded before.
    """
    before = {key: os.environ.pop(key, None) for key in ("PYKEEN_HOME", "PYSTOW_HOME")}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PYSTOW_HOME"] = cache
        try:
            yield
        finally:
            del os.environ["PYSTOW_HOME"]
            os.environ.update({key: value for key, value in before.items() if value is not None})


def train_with_curve(turns: Turns, *, setting: Setting, frequency: int, threads: int) -> dict[str, Any]:
    """Train in a process of its own, and measure the validation curve. Test triples are not touched.

    :param turns: where to wait
    :param setting: what to train
    :param frequency: rank validation triples after every so many epochs
    :param threads: the number of threads of torch

    :returns: the curve, and where it was measured
    """
    torch.set_num_threads(threads)
    quiet()
    experiment = configuration_to_run(setting)
    callbacks = callbacks_of(setting, experiment)
    options = experiment["pipeline"]
    dataset = data.load(options.pop("dataset"), **options.pop("dataset_kwargs"))
    assert dataset.validation is not None
    clock = TakingTurns(
        turns=turns,
        validation=dataset.validation.mapped_triples,
        known=[dataset.training.mapped_triples],
        frequency=frequency,
    )
    options["training_kwargs"].update(callbacks=[*callbacks, clock], use_tqdm=False)
    with empty_cache():
        # the pipeline insists on an evaluation: of validation triples, then
        result = pipeline(
            **options,
            dataset=dataset,
            evaluation_kwargs={"use_tqdm": False},
            use_testing_data=False,
        )
    return {
        "num_negatives": options["negative_sampler_kwargs"]["num_negs_per_pos"],
        "num_epochs": options["training_kwargs"]["num_epochs"],
        "epochs": clock.curve.epochs,
        "seconds": clock.curve.seconds,
        "values": clock.curve.values,
        "total_seconds": clock.curve.total_seconds,
        "peak_memory_mib": peak_memory_mib(),
        **environment(result.model.device),
    }
