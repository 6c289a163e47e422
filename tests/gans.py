"""Small two-way GANs on the clustered graph."""

from __future__ import annotations

from typing import Any

import torch
from pykeen.typing import FloatTensor

from pykeen_dans.generators import TwoWayGANGenerator
from pykeen_dans.space import EntitySpace
from pykeen_dans.utils.budget import Budget

from .toys import DIM, NUM_RELATIONS, clustered_graph, clustered_space, seeded

SPACE = clustered_space()
GRAPH = clustered_graph(typed=False)
QUERIES = GRAPH.index.select(torch.arange(GRAPH.index.num_queries))


def make_generator(seed: int = 0, **kwargs: Any) -> TwoWayGANGenerator:
    """Make a generator whose pathways make vectors of their own, as the paper's, unless something else is asked for."""
    torch.manual_seed(seed)
    return TwoWayGANGenerator(dim=DIM, num_relations=NUM_RELATIONS, **{"batch_size": 128, "residual": False, **kwargs})


def fit(
    generator: TwoWayGANGenerator, num_steps: int, *, space: EntitySpace = SPACE, seed: int = 0
) -> dict[str, float]:
    torch.manual_seed(seed)
    report = generator.fit(space=space, graph=GRAPH, budget=Budget(units=num_steps), random=seeded(seed))
    assert report.steps == num_steps
    return report.metrics


def generate(generator: TwoWayGANGenerator, *, space: EntitySpace = SPACE, seed: int = 0) -> FloatTensor:
    return generator.generate(space=space, graph=GRAPH, queries=QUERIES, random=seeded(seed))


def fakes_of(generator: TwoWayGANGenerator, *, space: EntitySpace = SPACE, seed: int = 0) -> list[FloatTensor]:
    return generator.fakes(space, QUERIES, seeded(seed))


def parameters_of(module: torch.nn.Module) -> dict[str, FloatTensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
