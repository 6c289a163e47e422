"""The options of an engine, in the form in which a sampler hands them on."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ..utils.logs import warn_once
from ..utils.validation import (
    validate_at_least,
    validate_choice,
    validate_positive,
    validate_sequence,
    validate_share,
)

__all__ = [
    "EngineSettings",
    "UpdateBudget",
    "default_fit_steps",
    "reachable_targets",
]

logger = logging.getLogger(__name__)

#: The number of positives for which a generator without a callback gets a training step, and the most and the fewest
_POSITIVES_PER_STEP, _MAX_FIT_STEPS, _MIN_FIT_STEPS = 64, 500, 20
#: What becomes of known answers
KNOWN_ANSWERS = ("compete", "mask")


def reachable_targets(targets: Sequence[float], *, num_entities: int, min_candidates: int) -> tuple[float, ...]:
    """Leave out the targets that a graph cannot give.

    The median percentile of the hardest ``min_candidates`` entities is about ``min_candidates / (2 num_entities)``, and
    neighbouring targets that are less than one entity apart cannot be told apart.

    :param targets: the targets, easy (large) first
    :param num_entities: the number of entities
    :param min_candidates: the fewest entities that are drawn from

    :returns: those that are left, at least the easiest
    """
    hardest = min_candidates / (2 * num_entities)
    left = [targets[0]]
    for target in targets[1:]:
        if target >= hardest and left[-1] - target >= 1 / num_entities:
            left.append(target)
    if len(left) < len(targets):
        warn_once(
            logger,
            "targets=%s: %d entities are too few to tell them apart, so that only %s are used; give fewer targets.",
            tuple(targets),
            num_entities,
            tuple(left),
        )
    return tuple(left)


def default_fit_steps(num_positives: int) -> int:
    """Choose the number of training steps of a generator that no callback trains, by the size of the graph.

    With the usual batch of 512 positives, these are eight passes over them, but 20 to 500 steps.

    :param num_positives: the number of positives, once for each side that is filled

    :returns: the number of steps
    """
    return min(max(num_positives // _POSITIVES_PER_STEP, _MIN_FIT_STEPS), _MAX_FIT_STEPS)


@dataclasses.dataclass(frozen=True)
class EngineSettings:
    """The options of an engine. They are JSON-able, and documented with the samplers that take them.

    :raises ValueError: if one is invalid
    """

    targets: tuple[float, ...]
    sides: tuple[int, ...]
    seed: int
    num_slots: int = 16
    min_candidates: int = 4
    memory: float = 256.0
    known_answers: str = "compete"
    min_distinct: float = 0.1
    reference_kwargs: Mapping[str, Any] | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        # they are frozen, and the same whatever kind of number they are given as
        put = functools.partial(object.__setattr__, self)
        targets = validate_sequence("targets", self.targets)
        put("targets", targets)
        in_range = all(isinstance(target, float) and 0 < target <= 0.5 for target in targets)
        if not targets or not in_range or list(targets) != sorted(targets, reverse=True):
            raise ValueError(
                f"targets={self.targets} must be rank percentiles in (0, 0.5], one for each band, the easiest "
                f"(largest) first, for example (0.3, 0.2, 0.1)."
            )
        put("num_slots", validate_at_least("num_slots", self.num_slots, 1))
        put("min_candidates", validate_at_least("min_candidates", self.min_candidates, 1))
        put("memory", validate_positive("memory", self.memory))
        put("known_answers", validate_choice("known_answers", self.known_answers, KNOWN_ANSWERS))
        put("min_distinct", validate_share("min_distinct", self.min_distinct))

    def on(self, num_entities: int) -> EngineSettings:
        """Leave out the targets that a graph cannot give, see :func:`reachable_targets`.

        :param num_entities: the number of entities

        :returns: the options that are left
        """
        targets = reachable_targets(self.targets, num_entities=num_entities, min_candidates=self.min_candidates)
        return dataclasses.replace(self, targets=targets)


@dataclasses.dataclass(frozen=True)
class UpdateBudget:
    """How much one update of an engine may cost, in seconds, or in counts of what is done.

    :param seconds: the wall time. It does not end what is counted.
    :param fit_share: the part of this time that goes into training the generator, in [0, 1]
    :param least_fit_steps: the number of its training steps however little time there is
    :param fit_steps: the number of its training steps, instead of a time
    :param refresh_queries: the number of queries that are generated for, instead of a time
    """

    seconds: float | None = None
    fit_share: float = 0.4
    least_fit_steps: int = 0
    fit_steps: int | None = None
    refresh_queries: int | None = None
