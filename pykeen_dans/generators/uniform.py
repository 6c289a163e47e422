"""No generator at all: all negatives stay uniform. This is the control of the benchmarks."""

from __future__ import annotations

from typing import ClassVar

import torch
from pykeen.typing import FloatTensor

from ..graph import Graph, QueryBatch
from ..space.entity_space import EntitySpace
from .base import Generator, generator_resolver

__all__ = [
    "UniformGenerator",
]


class UniformGenerator(Generator):
    """Generate nothing, by which a sampler draws uniformly, and a callback has nothing to do but to log."""

    generates: ClassVar[bool] = False

    def generate(
        self, *, space: EntitySpace, graph: Graph, queries: QueryBatch, random: torch.Generator
    ) -> FloatTensor:
        """Draw the vectors of random entities, for those who ask nevertheless, see :meth:`Generator.generate`."""
        ids = torch.randint(space.num_entities, size=(len(queries), self.num_bands, 1), generator=random)
        return space.vectors[ids.to(space.device)]


generator_resolver.register(UniformGenerator)
