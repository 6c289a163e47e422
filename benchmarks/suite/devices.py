"""What the accelerator does while a model trains."""

from __future__ import annotations

import importlib.util
import threading
from types import TracebackType

import torch

__all__ = [
    "Utilisation",
]

_INTERVAL_SECONDS = 0.5


class Utilisation:
    """The share of time in which the GPU worked, sampled by a thread from enter to exit.

    It is None without a GPU, and where ``pynvml``, by which torch asks the driver, is not installed.
    """

    def __init__(self) -> None:
        """Initialise the sampler."""
        self._samples: list[int] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Utilisation:
        """Begin."""
        if torch.cuda.is_available() and importlib.util.find_spec("pynvml") is not None:
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(_INTERVAL_SECONDS):
            self._samples.append(torch.cuda.utilization())

    @property
    def mean(self) -> float | None:
        """The mean over all samples, in [0, 1]."""
        return sum(self._samples) / len(self._samples) / 100 if self._samples else None
