"""The published configuration of the hierarchical diffusion, and how it collapses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from pykeen_dans.generators import generator_resolver
from pykeen_dans.graph import Graph
from pykeen_dans.multimodal.generator import HierarchicalGenerator
from pykeen_dans.multimodal.levels import SemanticLevel
from pykeen_dans.multimodal.published import PublishedHierarchicalGenerator, PublishedProcess
from pykeen_dans.space import EntitySpace
from pykeen_dans.utils.budget import Budget

from .toys import functional_graph, random_space, seeded

#: the mean absolute size of standard normal noise, the error of who predicts none
ZERO_PREDICTOR = math.sqrt(2 / math.pi)
#: the standard deviations of what the published chain gives for a network that predicts zeros, by timestep
NOISE_ONLY = {25: 1.39, 12: 1.49, 6: 1.51, 5: 1.51}


def fit(generator: HierarchicalGenerator, num_steps: int, *, space: EntitySpace, graph: Graph) -> float:
    """Train, and tell the error of the predicted noise."""
    torch.manual_seed(0)
    report = generator.fit(space=space, graph=graph, budget=Budget(units=num_steps), random=seeded())
    return report.metrics["noise_error"]


def published(dim: int, **kwargs: Any) -> tuple[PublishedHierarchicalGenerator, EntitySpace, Graph]:
    """Make the published generator, with entity vectors of about the size that they have in it at first."""
    graph, space = functional_graph(250), random_space(500, dim, scale=0.03)
    torch.manual_seed(0)
    return PublishedHierarchicalGenerator(dim=dim, num_relations=5, **kwargs), space, graph


@pytest.mark.nightly
def test_the_published_configuration_collapses_to_the_zero_predictor() -> None:
    generator, space, graph = published(1024, batch_size=50)
    fit(generator, 40, space=space, graph=graph)
    assert fit(generator, 5, space=space, graph=graph) == pytest.approx(ZERO_PREDICTOR, abs=0.02)


@pytest.mark.slow
def test_what_collapses_is_a_matter_of_learning_rate_and_width() -> None:
    """A quarter of the width trains at the published learning rate, and collapses at five times this rate."""
    errors = []
    for learning_rate in (2e-3, 1e-2):
        generator, space, graph = published(256, batch_size=64, learning_rate=learning_rate)
        fit(generator, 50, space=space, graph=graph)
        errors.append(fit(generator, 10, space=space, graph=graph))
    assert errors[0] < 0.6
    assert errors[1] == pytest.approx(ZERO_PREDICTOR, abs=0.03)


def test_its_values_are_those_of_the_published_code() -> None:
    generator, _, _ = published(16)
    assert generator_resolver.lookup("published-hierarchical") is PublishedHierarchicalGenerator
    process = generator.process(0)
    assert process.bands == [25, 12, 6, 5]
    assert (process.num_steps, process.noise_loss) == (None, "l1")
    assert (generator.schedule.num_timesteps, generator.schedule.beta_global, generator.schedule.mu) == (50, 0.02, 0.0)
    # about 19 parameters for each square of the width
    generator, _, _ = published(256)
    assert sum(p.numel() for p in generator.parameters()) == pytest.approx(19 * 256**2, rel=0.05)
    # the learning rate does not warm up, and gradients are not clipped
    assert generator.optimizer.param_groups[0]["lr"] == generator.learning_rate == 2e-3
    assert generator.max_norm == float("inf")


def test_modalities_share_the_network_which_is_not_told_which_one_it_restores() -> None:
    levels = (SemanticLevel("structural"), SemanticLevel("again"))
    generator, space, graph = published(16, levels=levels)
    assert generator.process(0).denoiser is generator.process(1).denoiser
    fit_options: dict[str, Any] = dict(space=space, graph=graph)
    generator.fit(**fit_options, budget=Budget(units=3), random=seeded())
    vectors = [
        generator.process(source).generate(
            space=space,
            queries=graph.index.select(torch.arange(20)),
            answers=graph.index.sample_answer(torch.arange(20), seeded()),
            surroundings=generator.surroundings(space, graph),
            random=seeded(),
        )
        for source in range(2)
    ]
    assert torch.equal(*vectors)


def test_the_network_alone_predicts_the_noise() -> None:
    """There is no ridge to begin from: errors are those of a network as PyTorch makes it, and then those of its own."""
    generator, space, graph = published(16)
    metrics = generator.fit(space=space, graph=graph, budget=Budget(units=1), random=seeded()).metrics
    assert metrics["noise_error"] > metrics["ridge_error"] + 0.01
    assert metrics["noise_error"] > 0.95 * ZERO_PREDICTOR


def published_process(dim: int = 64) -> tuple[PublishedHierarchicalGenerator, PublishedProcess, EntitySpace, Graph]:
    generator, space, graph = published(dim)
    process = generator.process(0)
    assert isinstance(process, PublishedProcess)
    (own,) = generator.spaces(space)
    return generator, process, own, graph


def test_the_space_is_left_as_it_is() -> None:
    _, _, space, _ = published_process()
    assert torch.equal(space.vectors, space.raw_entities)
    assert space.vectors.std() < 0.05


@torch.no_grad()
def run_chain(
    generator: PublishedHierarchicalGenerator, process: PublishedProcess, space: EntitySpace, graph: Graph
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generate for all queries, and tell the vectors of their answers."""
    queries = graph.index.select(torch.arange(graph.index.num_queries))
    answers = graph.index.sample_answer(queries.rows, seeded())
    vectors = process.generate(
        space=space,
        queries=queries,
        answers=answers,
        surroundings=generator.surroundings(space, graph),
        random=seeded(),
    )
    return vectors, space.vectors[answers]


def test_without_any_predicted_noise_the_published_chain_gives_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size depends on the timestep alone, and is that which follows from the published schedule."""
    generator, process, space, graph = published_process()
    monkeypatch.setattr(process, "predict_noise", lambda x, *_: torch.zeros_like(x))
    vectors, _ = run_chain(generator, process, space, graph)
    assert tuple(process.bands) == tuple(NOISE_ONLY)
    assert vectors.std(dim=(0, 2)).tolist() == pytest.approx(list(NOISE_ONLY.values()), abs=0.01)


def test_with_the_true_noise_the_published_chain_ends_at_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, process, space, graph = published_process()
    process.bands = [0]
    answers = graph.index.sample_answer(torch.arange(graph.index.num_queries), seeded())
    truth = space.vectors[answers]
    monkeypatch.setattr(process, "predict_noise", lambda x, _, abar, __: (x - abar.sqrt() * truth) / (1 - abar).sqrt())
    vectors, expected = run_chain(generator, process, space, graph)
    torch.testing.assert_close(vectors[:, 0], expected, atol=1e-4, rtol=1e-3)


def test_the_published_chain_begins_with_a_noise_that_it_was_never_trained_on() -> None:
    """After all 50 steps, 60 % of the signal is left; ours leaves next to none."""
    left = {
        cls: cls(dim=4, num_relations=1).schedule.alpha_bars(torch.tensor([0.5]))[0, -1].item()
        for cls in (PublishedHierarchicalGenerator, HierarchicalGenerator)
    }
    assert left[PublishedHierarchicalGenerator] == pytest.approx(0.603, abs=1e-3)
    assert left[HierarchicalGenerator] < 0.02
