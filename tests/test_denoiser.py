"""The two parts of the diffusion: the conditional Gaussian, and the denoiser that corrects it."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from pykeen_dans.generators.denoiser import Condition, Denoiser
from pykeen_dans.generators.gaussian import ConditionalGaussian

from .toys import seeded

# The conditional Gaussian


def test_gaussian_recovers_a_linear_map() -> None:
    features = torch.randn(4000, 5, generator=seeded())
    weight = torch.randn(5, 3, generator=seeded(1))
    deviation = torch.tensor([0.5, 0.0, 3.0])
    gaussian = ConditionalGaussian(num_features=5, dim=3)
    gaussian.fit(features, features @ weight + deviation * torch.randn(4000, 3, generator=seeded(2)))
    torch.testing.assert_close(gaussian.weight[:, :2], weight[:, :2], atol=0.05, rtol=0)
    torch.testing.assert_close(gaussian.mean(features)[:, 1], (features @ weight)[:, 1], atol=0.1, rtol=0)
    # what is left open, within bounds
    assert gaussian.variance.tolist() == pytest.approx([0.25, 0.05, 1.0], rel=0.1)


def test_gaussian_copes_with_features_that_depend_on_each_other() -> None:
    features = torch.ones(20, 40)
    gaussian = ConditionalGaussian(num_features=40, dim=2)
    gaussian.fit(features, torch.full((20, 2), 3.0))
    torch.testing.assert_close(gaussian.mean(features), torch.full((20, 2), 3.0), atol=0.01, rtol=0)


@pytest.mark.parametrize("abar", [0.999, 0.6, 0.1, 1e-4])
def test_estimate_is_the_posterior_mean(abar: float) -> None:
    gaussian = ConditionalGaussian(num_features=1, dim=2)
    gaussian.variance.copy_(torch.tensor([0.3, 0.9]))
    x_t, mean = torch.tensor([[0.7, -2.0]]), torch.tensor([[1.2, 0.4]])
    estimate, deviation = gaussian.estimate(x_t, mean, torch.tensor([[abar]]))
    # integrate the Gaussian times the likelihood on a grid
    grid = torch.linspace(-12, 12, 400_001, dtype=torch.double)
    for d in range(2):
        log_density = -((grid - mean[0, d]) ** 2) / (2 * gaussian.variance[d]) - (
            x_t[0, d] - math.sqrt(abar) * grid
        ) ** 2 / (2 * (1 - abar))
        density = torch.softmax(log_density, dim=0)
        expected = (density * grid).sum()
        assert estimate[0, d].item() == pytest.approx(expected.item(), abs=1e-3)
        spread = (density * (grid - expected) ** 2).sum().sqrt()
        assert deviation[0, d].item() == pytest.approx(spread.item(), abs=1e-3)


def test_before_it_is_fitted_the_gaussian_is_standard_normal() -> None:
    gaussian = ConditionalGaussian(num_features=4, dim=3)
    x_t, abar = torch.randn(6, 3, generator=seeded()), torch.linspace(0.05, 0.95, 6)[:, None]
    mean = gaussian.mean(torch.randn(6, 4, generator=seeded(1)))
    assert (mean == 0).all()
    estimate, deviation = gaussian.estimate(x_t, mean, abar)
    torch.testing.assert_close(estimate, abar.sqrt() * x_t)
    torch.testing.assert_close(deviation, (1 - abar).sqrt().expand(6, 3))


def test_a_new_fit_pays_where_vectors_have_moved() -> None:
    """The same positives, or others of the same law, are no reason; a law that has changed is one."""
    features, weight = torch.randn(4000, 5, generator=seeded()), torch.randn(5, 3, generator=seeded(1))

    def positives(seed: int, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.randint(4000, size=(500,), generator=seeded(seed))
        noise = 0.5 * torch.randn(500, 3, generator=seeded(seed + 1))
        return features[rows], scale * features[rows] @ weight + noise

    gaussian = ConditionalGaussian(num_features=5, dim=3)
    assert gaussian.is_outdated(*positives(0))
    gaussian.fit(features, features @ weight + 0.5 * torch.randn(4000, 3, generator=seeded(2)))
    assert [gaussian.is_outdated(*positives(seed)) for seed in range(10, 20, 2)].count(True) <= 1
    assert gaussian.is_outdated(*positives(0, scale=1.5))
    assert gaussian.is_outdated(*positives(0, scale=-1.0))
    # vectors that have become easier to tell need no new fit either
    assert not gaussian.is_outdated(features, features @ gaussian.weight)


# The denoiser


def make_condition(n: int = 5, dim: int = 4, seed: int = 0) -> Condition:
    random = seeded(seed)
    query, kept, centroid = (torch.randn(n, dim, generator=random) for _ in range(3))
    return Condition(
        query=query,
        kept=kept,
        type=centroid,
        relation=torch.randint(3, size=(n,), generator=random),
        side=torch.randint(2, size=(n,), generator=random),
        difficulty=torch.rand(n, generator=random),
    )


@pytest.mark.parametrize("conditioned", [True, False])
def test_a_new_denoiser_corrects_nothing(conditioned: bool) -> None:
    denoiser = Denoiser(dim=4, num_relations=3, num_timesteps=10, hidden_dim=16, conditioned=conditioned)
    x = torch.randn(5, 4, generator=seeded())
    assert (denoiser(x, torch.tensor([1, 2, 5, 9, 10]), denoiser.encode(make_condition())) == 0).all()


def randomise(denoiser: Denoiser) -> Denoiser:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.normal_(std=0.3)
    return denoiser.eval()


@pytest.mark.parametrize("field", ["query", "kept", "type", "relation", "side", "difficulty"])
def test_each_part_of_the_condition_matters_unless_it_is_left_out(field: str) -> None:
    condition, other = make_condition(seed=0), make_condition(seed=1)
    changed = dataclasses.replace(condition, **{field: getattr(other, field)})
    x, timestep = torch.randn(5, 4, generator=seeded()), torch.tensor(3)
    for conditioned in (True, False):
        denoiser = randomise(Denoiser(dim=4, num_relations=3, num_timesteps=10, hidden_dim=16, conditioned=conditioned))
        before, after = (denoiser(x, timestep, denoiser.encode(c)) for c in (condition, changed))
        assert torch.equal(before, after) == (not conditioned)


def test_denoiser_tells_timesteps_apart() -> None:
    denoiser = randomise(Denoiser(dim=4, num_relations=3, num_timesteps=10, hidden_dim=16))
    x, encoded = torch.randn(5, 4, generator=seeded()), denoiser.encode(make_condition())
    single = denoiser(x, torch.tensor(4), encoded)
    torch.testing.assert_close(denoiser(x, torch.full((5,), 4), encoded), single)
    assert not torch.allclose(denoiser(x, torch.tensor(10), encoded), single)


def test_conditions_are_dropped_in_training_only() -> None:
    denoiser = randomise(Denoiser(dim=4, num_relations=3, num_timesteps=10, hidden_dim=16, condition_dropout=0.4))
    condition = make_condition(n=2000)
    assert (denoiser.encode(condition)[1] != 0).any(dim=-1).all()
    denoiser.train()
    dropped = (denoiser.encode(condition)[1] == 0).all(dim=-1).float().mean().item()
    assert dropped == pytest.approx(0.4, abs=0.05)


def test_modalities_that_share_a_network_are_told_apart() -> None:
    shared = randomise(Denoiser(dim=4, num_relations=3, num_timesteps=10, hidden_dim=16, num_modalities=2))
    x, timestep, condition = torch.randn(5, 4, generator=seeded()), torch.tensor(3), make_condition()
    first, second = (
        shared(x, timestep, shared.encode(dataclasses.replace(condition, modality=modality))) for modality in range(2)
    )
    assert not torch.allclose(first, second)


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden_dim=7 is odd.*8"):
        Denoiser(dim=4, num_relations=3, num_timesteps=10, hidden_dim=7)
