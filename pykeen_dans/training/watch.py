"""What may be wrong with a training, said once each, and told to the result tracker after each epoch."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pykeen.training import SLCWATrainingLoop

from ..engine.engine import GenerationEngine
from ..utils.logs import warn_once

__all__ = [
    "TrainingWatch",
    "WatchedTrainingLoop",
    "warn_of_losses",
]

logger = logging.getLogger(__name__)

#: The number of updates by which bands should be where they belong, and of epochs by which a bank should be filled
_ENOUGH = 10
#: Neighbouring bands whose measured percentiles differ by less than this ratio are the same for all purposes
_LEAST_RATIO = 1.05
#: The share of uniform negatives in the place of generated ones that is worth a word
_MANY_FALLBACKS = 0.5
#: A loss that has fallen by less than this, as a part of it, has hardly moved; after PyKEEN's default number of epochs,
#: or a shorter way to go in the last of them, it has not come far
_FLAT, _LITTLE, _STILL_FALLING = 0.01, 0.1, 0.02
#: A loss of less than this part of the first one is as good as nothing
_NOTHING = 1e-4
_DEFAULT_EPOCHS = 5


class TrainingWatch:
    """Watch a training with generated negatives.

    There is a metric of each kind of trouble, which is 1 in the epochs that have it, and one line in the log:

    ``warning_bands``
        neighbouring bands of hardness that cannot be told apart
    ``warning_targets``
        bands that are off their targets
    ``warning_fit``
        a generator whose network has had no training step
    ``warning_fallback``
        more than half of the generated negatives were missing, so that uniform ones took their place
    ``warning_uniform``
        all of them were missing
    ``warning_loss``
        a loss that is nothing, or where it was at the beginning, so that there is nothing to learn from
    """

    def __init__(self) -> None:
        """Begin with a training."""
        self._losses: list[float] = []
        self._first_update: int | None = None
        self._fit_steps = 0
        self._without: list[int] = []
        self._fallback = 0.0
        self._told_of_fallback = False

    def epoch(self, loss: float, metrics: Mapping[str, float], engine: GenerationEngine) -> dict[str, float]:
        """Look at an epoch.

        :param loss: its loss
        :param metrics: what the callback knows of it
        :param engine: the engine

        :returns: the metrics of what may be wrong
        """
        self._losses.append(loss)
        number = len(self._losses)
        wanted = metrics["share"] > 0
        missing = metrics["fallback"] if wanted else 0.0
        filling = self._first_update is None or number <= self._first_update
        if missing == 1:
            self._without.append(number)
        self._fallback = 0.0 if filling else missing
        if self._first_update is None and "refresh_seconds" in metrics:
            self._first_update = number
        self._fit_steps += int(metrics["fit_steps"])
        found = {
            "bands": bool(_alike(engine)),
            "targets": engine.steering.num_updates >= _ENOUGH and bool(engine.steering.unheld()),
            "fit": self._is_unfit(engine),
            "fallback": self._fallback > _MANY_FALLBACKS,
            "uniform": missing == 1,
            "loss": _is_gone(self._losses) or (number >= _ENOUGH and _fall(self._losses) < _FLAT),
        }
        if self._first_update is not None and number == self._first_update + _ENOUGH:
            self._warn_of_fallback()
        return {f"warning_{name}": float(value) for name, value in found.items()}

    def _is_unfit(self, engine: GenerationEngine) -> bool:
        """Tell whether there is a network, and nothing has trained it."""
        generator = engine.generator
        if generator is None or not getattr(generator, "trains_network", True):
            return False
        return self._fit_steps == 0 and next(generator.parameters(), None) is not None

    def _warn_of_fallback(self) -> None:
        if self._fallback > _MANY_FALLBACKS and not self._told_of_fallback:
            self._told_of_fallback = True
            warn_once(
                logger,
                "%.0f %% of the generated negatives were missing in the bank, and uniform ones took their place; raise "
                "refresh_budget or refresh_queries.",
                100 * self._fallback,
            )

    def finish(self, losses: Sequence[float], engine: GenerationEngine) -> None:
        """Say what was wrong with a training.

        :param losses: the losses of all of its epochs
        :param engine: the engine
        """
        self._warn_of_fallback()
        warn_of_losses(losses)
        if self._is_unfit(engine):
            warn_once(
                logger,
                "The network of the generator has had no training step; raise min_fit_steps, fit_steps or fit_share.",
            )
        # before the first epoch there is no model to generate for
        if self._without[1:] or self._without == [1] == [len(self._losses)]:
            warn_once(
                logger,
                "%d of %d epochs ran without generated negatives, all of which were missing in the bank; train for "
                "more epochs, or raise refresh_budget.",
                len(self._without),
                len(self._losses),
            )
        steering = engine.steering
        if pairs := _alike(engine):
            warn_once(
                logger,
                "Bands cannot be told apart by the model: %s; give fewer targets, or targets that are farther apart.",
                ", ".join(f"{easier} and {harder} of {source}" for easier, harder, source in pairs),
            )
        if steering.num_updates >= _ENOUGH and (unheld := steering.unheld()):
            warn_once(
                logger,
                "Bands have other median rank percentiles than their targets: %s; choose targets nearby, or raise "
                "refresh_budget.",
                ", ".join(
                    f"{steering.percentiles[band][source]:.3f} rather than {steering.targets[band]:.3f} in band {band} "
                    f"of {engine.sources[source]}"
                    for band, source in unheld
                ),
            )


def _alike(engine: GenerationEngine) -> list[tuple[int, int, str]]:
    """List neighbouring bands that cannot be told apart, with the source."""
    if engine.steering.num_measured < _ENOUGH:
        return []
    percentiles = engine.steering.percentiles
    return [
        (easier, harder, name)
        for source, name in enumerate(engine.sources)
        for easier, harder in itertools.pairwise(range(len(percentiles)))
        # what was not measured is not known to be alike
        if percentiles[easier][source] < _LEAST_RATIO * percentiles[harder][source]
    ]


def _fall(losses: Sequence[float]) -> float:
    """Tell by how much a loss has fallen, as a part of it; NaN where it is not finite."""
    first, last = losses[0], losses[-1]
    if not (math.isfinite(first) and math.isfinite(last)) or first == 0:
        return math.nan
    return (first - last) / abs(first)


def _is_gone(losses: Sequence[float]) -> bool:
    """Tell whether a loss is as good as nothing."""
    return len(losses) > 1 and abs(losses[-1]) < _NOTHING * abs(losses[0])


def warn_of_losses(losses: Sequence[float]) -> None:
    """Say where there was nothing, or not enough, to learn from.

    :param losses: the losses of all epochs of a training
    """
    if len(losses) < 2:
        return
    fall, first, last = _fall(losses), losses[0], losses[-1]
    if _is_gone(losses):
        warn_once(
            logger,
            "The learning signal is gone: the loss is %.3g, and was %.3g at first; choose another loss (e.g. "
            "crossentropy) or a larger margin, or more or harder negatives.",
            last,
            first,
        )
    elif len(losses) == _DEFAULT_EPOCHS and (fall < _LITTLE or _fall(losses[-2:]) > _STILL_FALLING):
        warn_once(
            logger,
            "The model has hardly begun to learn in %d epochs, which are PyKEEN's default (the loss went from %.4g to "
            "%.4g); train longer, e.g. training_kwargs=dict(num_epochs=100).",
            len(losses),
            first,
            last,
        )
    elif len(losses) >= _ENOUGH and fall < _FLAT:
        warn_once(
            logger,
            "The learning signal is gone: the loss has hardly moved in %d epochs (from %.4g to %.4g); choose another "
            "learning rate, e.g. optimizer_kwargs=dict(lr=0.01), or another loss.",
            len(losses),
            first,
            last,
        )


class WatchedTrainingLoop(SLCWATrainingLoop):
    """A training loop that says where there was nothing, or not enough, to learn from."""

    # docstr-coverage: inherited
    def _train(self, *args: Any, **kwargs: Any) -> list[float] | None:
        losses: list[float] | None = super()._train(*args, **kwargs)
        # size probing has none
        if losses:
            warn_of_losses(losses)
        return losses
