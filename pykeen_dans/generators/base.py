"""The interface of generators: what a sampler of this plugin consists of, beside its spaces."""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import nn

from ..graph import QueryBatch, QueryIndex
from ..graph.types import EntityTypes
from ..space.entity_space import EntitySpace

__all__ = [
    "Budget",
    "FitReport",
    "Generator",
    "World",
]


@dataclasses.dataclass(frozen=True)
class World:
    """What a generator knows of the graph.

    :param index: the queries with their known answers
    :param types: the type of each entity
    :param difficulty: shape: (num_entities,) the difficulty of each entity, in (0, 1)
    """

    index: QueryIndex
    types: EntityTypes
    difficulty: FloatTensor

    def sample_positives(self, size: int, random: torch.Generator) -> tuple[QueryBatch, LongTensor]:
        """Draw queries with one of their answers, as often as they occur in training.

        :param size: the number n of samples
        :param random: the source of randomness

        :returns: the queries, and shape: (n,) their answers
        """
        position = torch.randint(self.index.answers.shape[0], size=(size,), generator=random)
        return self.index.positives(position)


@dataclasses.dataclass
class Budget:
    """How much may be spent: a number of units, or seconds, whichever ends first.

    :param units: the number of units (steps of training, or queries), None for no such limit
    :param seconds: the wall time in seconds, None for no such limit
    """

    units: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Start the clock."""
        self._spent = 0
        self._started = time.perf_counter()

    def spend(self, units: int) -> None:
        """Note that units were spent."""
        self._spent += units

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
        if self.seconds is not None and self.elapsed >= self.seconds:
            return 0
        return max(0, units)


@dataclasses.dataclass(frozen=True)
class FitReport:
    """What a round of training a generator came to.

    :param steps: the number of optimiser steps
    :param seconds: the wall time in seconds
    :param metrics: the means of the generator's losses over the round, empty when there was no step
    """

    steps: int
    seconds: float
    metrics: dict[str, float]


class Generator(nn.Module, ABC):
    """A network that makes vectors of plausible but wrong answers to queries, at several levels of hardness.

    A generator is made for spaces of one dimension. It is trained on positives, in rounds that may be far apart, and
    never passes a gradient into the space it is shown.
    """

    #: The number of hardness bands, easy first
    num_bands: int

    @abstractmethod
    def fit(self, *, space: EntitySpace, world: World, budget: Budget, random: torch.Generator) -> FitReport:
        """Train for a while.

        :param space: the current entity vectors
        :param world: what is known of the graph
        :param budget: the number of steps or of seconds
        :param random: the source of randomness for batches and noise, on the CPU

        :returns: what it came to
        """

    @abstractmethod
    def generate(
        self,
        *,
        space: EntitySpace,
        world: World,
        queries: QueryBatch,
        random: torch.Generator,
    ) -> FloatTensor:
        """Generate vectors.

        :param space: the current entity vectors
        :param world: what is known of the graph
        :param queries: n queries
        :param random: the source of randomness, on the CPU

        :returns: shape: (n, num_bands, dim) standardised vectors, each band's in its own of :meth:`spaces`, the easiest
            band first
        """

    def spaces(self, space: EntitySpace) -> Sequence[EntitySpace]:
        """Tell in which space the vectors of each band are.

        :param space: the current entity vectors

        :returns: a space of the same dimension for each band. The default is the given one for all of them.
        """
        return [space] * self.num_bands

    def adjust_hardness(self, band: int, harder: bool) -> bool:
        """Make a band harder or easier by the means of the generator itself, when decoding can do no more.

        :param band: the band
        :param harder: whether it is to become harder, else easier

        :returns: whether there was anything left to change. The default has nothing.
        """
        return False
