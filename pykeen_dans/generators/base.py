"""The interface of generators: what a sampler of this plugin consists of, beside its spaces.

A generator makes vectors of plausible but wrong answers to queries; a decoder finds entities near them. Its vectors
have two axes: hardness *bands*, easy first, and *sources*, which make vectors side by side: the two pathways of a GAN,
or the modalities of a hierarchy. A new generator is one new file: subclass :class:`Generator`, and register the class
with
:data:`generator_resolver`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from class_resolver import ClassResolver
from pykeen.typing import FloatTensor
from torch import nn

from ..graph import Graph, QueryBatch
from ..space.entity_space import EntitySpace
from ..utils.budget import Budget

__all__ = [
    "FitReport",
    "Generator",
    "generator_resolver",
]


@dataclasses.dataclass(frozen=True)
class FitReport:
    """What a round of training a generator came to.

    :param steps: the number of optimiser steps
    :param seconds: the wall time in seconds
    :param metrics: the means of the generator's losses over the round, empty when there was no step
    """

    steps: int = 0
    seconds: float = 0.0
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)


class Generator(nn.Module, ABC):
    """Make vectors of plausible but wrong answers to queries, at several levels of hardness.

    A generator is made for spaces of one dimension. It is trained on positives, in rounds that may be far apart, and
    never passes a gradient into the space that it is shown.

    :param dim: the dimension of the spaces
    :param num_relations: the number of relations
    :param num_bands: the number of hardness bands
    """

    #: The names of what makes vectors side by side, for each band
    sources: tuple[str, ...] = ("generated",)
    #: Whether the sources go from easy to hard, so that a curriculum moves along them. Else each has an equal part.
    ordered: ClassVar[bool] = False
    #: Whether there is anything to generate; without, all negatives stay uniform
    generates: ClassVar[bool] = True

    def __init__(self, *, dim: int, num_relations: int, num_bands: int) -> None:
        """Initialise the generator."""
        super().__init__()
        self.dim = dim
        self.num_relations = num_relations
        self.num_bands = num_bands

    def prepare(self, graph: Graph) -> None:
        """Make what is read of the graph, before any clock runs. The default reads queries and answers alone.

        :param graph: what is known of the graph
        """
        return None

    def fit(self, *, space: EntitySpace, graph: Graph, budget: Budget, random: torch.Generator) -> FitReport:
        """Train for a while. The default has nothing to train.

        :param space: the current entity vectors
        :param graph: what is known of the graph
        :param budget: the number of steps or of seconds
        :param random: the source of randomness for batches and noise, on the CPU

        :returns: what it came to
        """
        return FitReport()

    @abstractmethod
    def generate(
        self, *, space: EntitySpace, graph: Graph, queries: QueryBatch, random: torch.Generator
    ) -> FloatTensor:
        """Generate vectors.

        :param space: the current entity vectors
        :param graph: what is known of the graph
        :param queries: n queries
        :param random: the source of randomness, on the CPU

        :returns: shape: (n, num_bands, num_sources, dim) standardised vectors, each source's in its own of
            :meth:`spaces`, the easiest band first
        """

    #: The names of what changes while a generator is in use, beside weights, buffers, optimisers and their schedulers,
    #: for example what :meth:`adjust_hardness` moves. It is kept with checkpoints.
    changing: ClassVar[tuple[str, ...]] = ()

    def get_extra_state(self) -> dict[str, Any]:
        """Tell what ``state_dict`` holds beside weights and buffers: optimisers, schedulers, and what else changes."""
        stateful = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
        state = {name: value.state_dict() for name, value in vars(self).items() if isinstance(value, stateful)}
        return state | {name: getattr(self, name) for name in self.changing}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on where another generator was.

        :param state: what its :meth:`get_extra_state` told
        """
        for name, value in state.items():
            if name in self.changing:
                setattr(self, name, value)
            else:
                getattr(self, name).load_state_dict(value)

    def spaces(self, space: EntitySpace) -> Sequence[EntitySpace]:
        """Tell in which space the vectors of each source are.

        :param space: the current entity vectors

        :returns: a space of the same dimension for each source. The default is the given one for all of them.
        """
        return [space] * len(self.sources)

    def adjust_hardness(self, band: int, source: int, *, harder: bool) -> bool:
        """Make vectors harder or easier by the means of the generator itself, when decoding can do no more.

        :param band: the band
        :param source: the source
        :param harder: whether they are to become harder, else easier

        :returns: whether there was anything left to change. The default has nothing.
        """
        return False


#: A resolver for generators; the classes register themselves when their modules are imported
generator_resolver: ClassResolver[Generator] = ClassResolver(
    [],
    base=Generator,  # type: ignore[type-abstract]
)
