"""The published configuration of the hierarchical diffusion, and how it collapses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from pykeen_dans.generators.base import Budget, World
from pykeen_dans.multimodal.generator import PRESETS, HierarchicalGenerator
from pykeen_dans.multimodal.published import PublishedChain
from pykeen_dans.space.entity_space import EntitySpace

from .toys import (
    functional_world,
    random_space,
    seeded,
)

#: the mean absolute size of standard normal noise, the error of who predicts none
ZERO_PREDICTOR = math.sqrt(2 / math.pi)
#: the standard deviations of what the published chain gives for a network that predicts zeros, by timestep
NOISE_ONLY = {25: 1.39, 12: 1.49, 6: 1.51, 5: 1.51}


def fit(generator: HierarchicalGenerator, num_steps: int, *, space: EntitySpace, world: World) -> dict[str, float]:
    torch.manual_seed(0)
    return generator.fit(space=space, world=world, budget=Budget(units=num_steps), random=seeded()).metrics


def released(dim: int, **kwargs: Any) -> tuple[HierarchicalGenerator, EntitySpace, World]:
    """Make the published generator, with entity vectors of about the size that they have in it at first."""
    world, space = functional_world(250), random_space(500, dim, scale=0.03)
    torch.manual_seed(0)
    return HierarchicalGenerator(dim=dim, num_relations=5, preset="released", **kwargs), space, world


@pytest.mark.slow
def test_released_preset_collapses_to_the_zero_predictor() -> None:
    generator, space, world = released(1024, batch_size=50)
    fit(generator, 80, space=space, world=world)
    assert fit(generator, 10, space=space, world=world)["diffusion_loss_structural"] == pytest.approx(
        ZERO_PREDICTOR, abs=0.02
    )


def test_what_collapses_is_a_matter_of_learning_rate_and_width() -> None:
    """A quarter of the width trains at the published learning rate, and collapses at five times this rate."""
    errors = []
    for learning_rate in (2e-3, 1e-2):
        generator, space, world = released(256, batch_size=64, learning_rate=learning_rate)
        fit(generator, 60, space=space, world=world)
        errors.append(fit(generator, 10, space=space, world=world)["diffusion_loss_structural"])
    assert errors[0] < 0.6
    assert errors[1] == pytest.approx(ZERO_PREDICTOR, abs=0.03)


def published_chain(dim: int = 64) -> tuple[PublishedChain, EntitySpace, World]:
    generator, space, world = released(dim)
    chain = generator._chain(0)
    assert isinstance(chain, PublishedChain)
    return chain, generator.level_spaces(space)[0], world


def test_released_preset_leaves_the_space_as_it_is() -> None:
    _, space, _ = published_chain()
    assert torch.equal(space.vectors, space.raw_entities)
    assert space.vectors.std() < 0.05


def test_without_any_predicted_noise_the_published_chain_gives_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size depends on the timestep alone, and is that which follows from the published schedule."""
    chain, space, world = published_chain()
    monkeypatch.setattr(chain, "predict_noise", lambda x, *_: torch.zeros_like(x))
    queries = world.index.select(torch.arange(world.index.num_queries))
    latent = chain.generate(space=space, world=world, queries=queries, random=seeded())
    assert tuple(chain.bands) == tuple(NOISE_ONLY)
    assert latent.std(dim=(0, 2)).tolist() == pytest.approx(list(NOISE_ONLY.values()), abs=0.01)


def test_with_the_true_noise_the_published_chain_ends_at_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    chain, space, world = published_chain()
    chain.bands = [0]
    queries = world.index.select(torch.arange(world.index.num_queries))
    answers = world.index.sample_answer(queries.rows, seeded())
    truth = space.vectors[answers]
    monkeypatch.setattr(chain, "predict_noise", lambda x, _, abar, __: (x - abar.sqrt() * truth) / (1 - abar).sqrt())
    latent = chain.generate(space=space, world=world, queries=queries, random=seeded())
    torch.testing.assert_close(latent[:, 0], truth, atol=1e-4, rtol=1e-3)


def test_released_chain_begins_with_a_noise_that_it_was_never_trained_on() -> None:
    """After all 50 steps, 60 % of the signal is left; the working preset leaves next to none."""
    left = {}
    for preset in PRESETS:
        generator = HierarchicalGenerator(dim=4, num_relations=1, preset=preset)
        left[preset] = generator._chain(0).schedule.alpha_bars(torch.tensor([0.5]))[0, -1].item()
    assert left["released"] == pytest.approx(0.603, abs=1e-3)
    assert left["working"] < 0.02
