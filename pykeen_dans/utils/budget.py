"""How much may be spent on work between two epochs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

__all__ = [
    "Budget",
]


@dataclasses.dataclass
class Budget:
    """A number of units, or seconds, whichever ends first.

    :param units: the number of units (steps of training, or queries), None for no such limit
    :param seconds: the wall time in seconds, None for no such limit
    :param least: the number of units that are allowed however little time there is
    :param watch: called with each number of units that is spent, as by a progress bar
    """

    units: int | None = None
    seconds: float | None = None
    least: int = 0
    watch: Callable[[int], object] | None = None

    def __post_init__(self) -> None:
        """Start the clock."""
        self._spent = 0
        self._started = time.perf_counter()

    def spend(self, units: int) -> None:
        """Note that units were spent."""
        self._spent += units
        if self.watch is not None:
            self.watch(units)

    @property
    def elapsed(self) -> float:
        """The seconds since the budget was made."""
        return time.perf_counter() - self._started

    def allow(self, units: int) -> int:
        """Tell how many of the wanted units are still allowed.

        :param units: the number of units wanted

        :returns: a number between 0 and this number
        """
        if self.units is not None:
            units = min(units, self.units - self._spent)
        if self.seconds is not None and self._spent >= self.least and self.elapsed >= self.seconds:
            return 0
        return max(0, units)
