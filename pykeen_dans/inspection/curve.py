"""Validation curves over the seconds that training took, by which samplers of different cost can be compared."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from pykeen.evaluation import RankBasedEvaluator
from pykeen.training import TrainingLoop
from pykeen.training.callbacks import TrainingCallback
from pykeen.typing import MappedTriples

from ..utils.validation import validate_at_least

__all__ = [
    "ValidationCurve",
    "ValidationCurveTrainingCallback",
]

_METRIC = "both.realistic.inverse_harmonic_mean_rank"
#: The number of triples that are ranked at once
_BATCH_SIZE = 256


@dataclasses.dataclass
class ValidationCurve:
    """The mean reciprocal rank on validation triples, over the course of a training.

    :param epochs: the epochs after which it was measured
    :param seconds: the seconds that training had taken by then, everything that the sampler needs included, and
        measuring excluded
    :param values: the filtered mean reciprocal ranks
    :param total_seconds: the seconds of the whole training, measuring excluded
    """

    epochs: list[int] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    values: list[float] = dataclasses.field(default_factory=list)
    total_seconds: float = 0.0


class ValidationCurveTrainingCallback(TrainingCallback):
    """Rank validation triples every few epochs, and note the time without that of the ranking.

    The clock starts before the sampler is made, so that whatever a sampler does beforehand is on it. List this callback
    after those whose time is to be included.

    :param validation: shape: (n, 3) the validation triples
    :param known: further triples that are left out of the ranking where they compete, for example the training triples
    :param frequency: measure after every so many epochs

    :raises ValueError: if the frequency is not positive
    """

    def __init__(self, *, validation: MappedTriples, known: Sequence[MappedTriples], frequency: int = 1) -> None:
        """Initialise the callback."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.validation = validation
        self.known = list(known)
        self.frequency = validate_at_least("frequency", frequency, 1)
        self.curve = ValidationCurve()
        self._started = 0.0

    # docstr-coverage: inherited
    def register_training_loop(self, training_loop: TrainingLoop[Any]) -> None:  # noqa: D102
        super().register_training_loop(training_loop)
        self.curve = ValidationCurve()
        self._started = time.perf_counter()

    # docstr-coverage: inherited
    def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:  # noqa: D102
        if epoch % self.frequency:
            return
        stopped = time.perf_counter()
        evaluator = RankBasedEvaluator(filtered=True, clear_on_finalize=True)
        result = evaluator.evaluate(
            model=self.model,
            mapped_triples=self.validation,
            additional_filter_triples=self.known,
            batch_size=_BATCH_SIZE,
            use_tqdm=False,
        )
        self.curve.epochs.append(epoch)
        self.curve.seconds.append(stopped - self._started)
        self.curve.values.append(result.get_metric(_METRIC))
        # as if no time had gone by
        self._started += time.perf_counter() - stopped

    # docstr-coverage: inherited
    def post_train(self, losses: list[float], **kwargs: Any) -> None:  # noqa: D102
        self.curve.total_seconds = time.perf_counter() - self._started
