"""Noise schedules and the steps of the diffusion process."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pykeen_dans.generators.diffusion import default_bands
from pykeen_dans.generators.schedule import NoiseSchedule, add_noise, ddim_step, ddpm_step, strided_timesteps
from pykeen_dans.utils.validation import validate_bands

ZETA = torch.linspace(0.01, 0.99, 25)


def test_beta_max_rises_with_difficulty() -> None:
    beta_max = NoiseSchedule().beta_max(ZETA)
    assert (beta_max.diff() > 0).all()
    assert beta_max.max() <= 0.5
    assert NoiseSchedule(beta_global=0.1, mu=2.0).beta_max(torch.tensor([0.0, 0.5, 1.0])).tolist() == pytest.approx(
        [0.1, 0.2, 0.3]
    )
    # without modulation, all have the same
    assert NoiseSchedule(mu=0.0).beta_max(ZETA).unique().tolist() == pytest.approx([0.2])


@settings(max_examples=50)
@given(
    beta_global=st.floats(min_value=1e-3, max_value=0.5),
    mu=st.floats(min_value=0, max_value=50),
    num_timesteps=st.integers(min_value=1, max_value=80),
)
def test_always_a_schedule(beta_global: float, mu: float, num_timesteps: int) -> None:
    schedule = NoiseSchedule(num_timesteps=num_timesteps, beta_global=beta_global, mu=mu)
    abars = schedule.alpha_bars(ZETA)
    assert abars.shape == (25, num_timesteps + 1)
    assert abars.dtype == torch.float32
    assert (abars[:, 0] == 1).all()
    assert ((abars > 0) & (abars <= 1)).all()
    assert (abars.diff(dim=1) <= 0).all()
    assert (abars.diff(dim=0) <= 0).all()
    assert 1e-4 - 1e-9 <= schedule.beta_max(ZETA).min() <= schedule.beta_max(ZETA).max() <= 0.5


def test_harder_is_noisier() -> None:
    assert (NoiseSchedule().alpha_bars(ZETA)[:, 2:].diff(dim=0) < 0).all()
    same = NoiseSchedule(mu=0.0).alpha_bars(ZETA)
    assert torch.equal(same, same[:1].expand_as(same))


def test_linear_reference_values() -> None:
    abar = NoiseSchedule(mu=0.0).alpha_bars(ZETA[:1])[0]
    assert abar[[5, 6, 12, 25]].tolist() == pytest.approx([0.959, 0.940, 0.760, 0.281], abs=6e-4)
    assert abar[50].item() == pytest.approx(4.6e-3, abs=5e-5)
    abar = NoiseSchedule(mu=0.5).alpha_bars(torch.ones(1))[0]
    assert abar[[5, 6, 12, 25]].tolist() == pytest.approx([0.940, 0.911, 0.660, 0.144], abs=6e-4)


def test_linear_against_iteration() -> None:
    zeta, mean, variance = 0.7, 1.0, 0.0
    abar = NoiseSchedule(num_timesteps=20, beta_low=1e-3, beta_global=0.1, mu=2.0).alpha_bars(torch.tensor([zeta]))
    for t in range(1, 21):
        beta = 1e-3 + (t - 1) / 19 * (0.1 * (1 + 2 * zeta) - 1e-3)
        mean *= math.sqrt(1 - beta)
        variance = (1 - beta) * variance + beta
        assert abar[0, t].item() == pytest.approx(mean**2, rel=1e-5)
        assert 1 - abar[0, t].item() == pytest.approx(variance, rel=1e-4)


def test_noise_at_once_has_the_moments_of_many_steps() -> None:
    torch.manual_seed(0)
    n, t = 40_000, 8
    schedule = NoiseSchedule(num_timesteps=12)
    zeta = torch.tensor([0.1, 0.9]).repeat_interleave(n)
    x0 = torch.tensor([2.0, -1.0]).expand(2 * n, 2)
    abars = schedule.alpha_bars(zeta)
    stepwise = x0
    for s in range(1, t + 1):
        alpha = (abars[:, s] / abars[:, s - 1])[:, None]
        stepwise = alpha.sqrt() * stepwise + (1 - alpha).sqrt() * torch.randn(2 * n, 2)
    at_once = add_noise(x0, torch.randn(2 * n, 2), abars[:, t, None])
    for rows in (slice(0, n), slice(n, 2 * n)):
        assert torch.allclose(stepwise[rows].mean(0), at_once[rows].mean(0), atol=0.02)
        assert torch.allclose(stepwise[rows].std(0), at_once[rows].std(0), atol=0.02)
    # ... which differ between an easy and a hard entity
    assert at_once[:n].mean(0)[0] - at_once[n:].mean(0)[0] > 0.1


def test_add_noise_takes_each_row_by_itself() -> None:
    x0, noise = torch.randn(3, 4), torch.randn(3, 4)
    zeta, t = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0, 7, 50])
    abar = NoiseSchedule().alpha_bars(zeta).gather(1, t[:, None])
    noisy = add_noise(x0, noise, abar)
    assert torch.equal(noisy[0], x0[0])
    for row in range(3):
        assert torch.allclose(noisy[row], add_noise(x0[row], noise[row], abar[row]))


@pytest.fixture
def chain() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    abars = NoiseSchedule().alpha_bars(torch.rand(64))
    x0, noise = torch.rand(64, 5) * 4 - 2, torch.randn(64, 5)
    abar = abars[:, 20, None]
    x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    return {"abars": abars, "x0": x0, "noise": noise, "x_t": x_t, "abar_t": abar}


@pytest.mark.parametrize("s", [0, 7, 19])
def test_ddim_with_the_true_noise_finds_the_way_back(chain: dict[str, torch.Tensor], s: int) -> None:
    abar_s = chain["abars"][:, s, None]
    x_s = ddim_step(chain["x_t"], chain["noise"], chain["abar_t"], abar_s)
    assert torch.allclose(x_s, abar_s.sqrt() * chain["x0"] + (1 - abar_s).sqrt() * chain["noise"], atol=1e-4)


def test_ddpm_against_the_usual_form(chain: dict[str, torch.Tensor]) -> None:
    abar_t, abar_s = chain["abar_t"], chain["abars"][:, 19, None]
    alpha = abar_t / abar_s
    mean = (chain["x_t"] - (1 - alpha) / (1 - abar_t).sqrt() * chain["noise"]) / alpha.sqrt()
    posterior = (1 - alpha) * (1 - abar_s) / (1 - abar_t)
    fresh = torch.randn(64, 5)
    x_s = ddpm_step(chain["x_t"], chain["noise"], abar_t, abar_s, noise=fresh)
    # no start is beyond 3 deviations here, so that nothing is clipped
    assert torch.allclose(x_s, mean + posterior.sqrt() * fresh, atol=1e-4)


def test_last_ddpm_step_adds_no_noise(chain: dict[str, torch.Tensor]) -> None:
    arguments = (chain["x_t"], chain["noise"], chain["abars"][:, 1, None], chain["abars"][:, 0, None])
    one, other = (ddpm_step(*arguments, noise=torch.randn(64, 5)) for _ in range(2))
    assert torch.equal(one, other)


def test_wrong_predictions_are_clipped(chain: dict[str, torch.Tensor]) -> None:
    """A start that lies further out than entities do is taken back to 3 deviations, and so is its noise."""
    wrong, start = 100.0 * chain["noise"], torch.ones(64, 1)
    restored = ddim_step(chain["x_t"], wrong, chain["abar_t"], start)
    assert restored.abs().max() == 3.0
    # the step agrees with the clipped start: at the same timestep, nothing has moved
    same = ddim_step(chain["x_t"], wrong, chain["abar_t"], chain["abar_t"])
    assert torch.allclose(same, chain["x_t"], atol=1e-4)
    fresh = torch.zeros(64, 5)
    assert ddpm_step(chain["x_t"], wrong, chain["abar_t"], chain["abars"][:, 19, None], noise=fresh).abs().max() < 5


@given(data=st.data(), num_timesteps=st.integers(1, 200), num_steps=st.integers(1, 250))
def test_strided_timesteps(data: st.DataObject, num_timesteps: int, num_steps: int) -> None:
    bands = data.draw(st.sets(st.integers(1, num_timesteps), min_size=1, max_size=6))
    ordered = sorted(bands, reverse=True)
    steps = strided_timesteps(num_timesteps, ordered, num_steps)
    assert steps == sorted(set(steps), reverse=True)
    assert steps[0] == num_timesteps
    assert steps[-1] == ordered[-1]
    assert bands <= set(steps)
    least, most = len({*bands, num_timesteps}), num_timesteps - ordered[-1] + 1
    assert len(steps) == max(least, min(num_steps, most))


def test_strided_timesteps_are_spread() -> None:
    steps = strided_timesteps(50, [2], 25)
    assert max(a - b for a, b in itertools.pairwise(steps)) <= 3


@given(num_timesteps=st.integers(1, 200), num_bands=st.integers(1, 6))
def test_default_bands_are_in_order(num_timesteps: int, num_bands: int) -> None:
    bands = default_bands(num_timesteps, num_bands)
    assert list(bands) == sorted(set(bands), reverse=True)
    assert 1 <= bands[-1] <= bands[0] <= max(1, (num_timesteps + 1) // 2)
    if num_timesteps >= 8 * num_bands:
        assert len(bands) == num_bands


@pytest.mark.parametrize("num_timesteps", [100, 200, 1000])
def test_default_bands_of_many_timesteps_have_the_signal_of_those_of_fifty(num_timesteps: int) -> None:
    def signal(number: int) -> torch.Tensor:
        schedule = NoiseSchedule(num_timesteps=number, beta_low=1e-4, beta_global=0.2, mu=1.0)
        return schedule.alpha_bars(torch.tensor([0.5]))[0, list(default_bands(number, 4))].log()

    torch.testing.assert_close(signal(num_timesteps), signal(50), rtol=0.15, atol=0.02)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ((), r"bands=\(\) is empty"),
        ((51, 3), r"bands=\(51, 3\) .*1\.\.50"),
        ((3, 0), r"bands=\(3, 0\) .*1\.\.50"),
        ((3, 5), r"bands=\(3, 5\) .*\(5, 3\)"),
        ((5, 5), r"bands=\(5, 5\) .*\(5,\)"),
        ((2.5, 1), r"bands=\(2\.5, 1\) .*whole"),
    ],
)
def test_bad_bands(bands: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate_bands("bands", bands, 50)
    with pytest.raises(ValueError, match=message):
        strided_timesteps(50, bands, 4)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(num_timesteps=0), "num_timesteps=0 .*choose 1"),
        (dict(beta_low=0.0), r"beta_low=0\.0 .*choose"),
        (dict(beta_global=1e-5), "beta_global=1e-05 .*beta_low"),
        (dict(beta_global=0.9), r"beta_global=0\.9 .*0\.5"),
        (dict(mu=-1.0), r"mu=-1\.0 .*choose"),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(**kwargs)
