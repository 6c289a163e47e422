r"""Entity-specific noise, and the steps of the diffusion process.

In DANS-KGC, the difficulty $\zeta$ of an entity modulates the *maximum* noise variance with a strength $\mu$, and
harder entities are perturbed more (from a secondary summary of the paper, which gives no formula). Ours is
$\beta_{max}(\zeta) = \beta_{global} (1 + \mu \zeta)$, by which a growing $\mu$ perturbs easy entities more, too, as
that summary says it does. The process is that of DDPM (Ho et al., 2020), and its strided steps are those of DDIM (Song
et al., 2021).

A schedule is computed for the rows that are asked for. No table of all entities and timesteps is ever kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from pykeen.typing import FloatTensor
from torch import nn

from ..utils.validation import validate_at_least, validate_bands, validate_non_negative, validate_positive

__all__ = [
    "NoiseSchedule",
    "add_noise",
    "ddim_step",
    "ddpm_step",
    "strided_timesteps",
]

#: The largest variance of the noise of one step; beyond it, a chain of few steps becomes unstable
MAX_BETA = 0.5
#: The bound of predicted vectors, in standard deviations of the space, by which a bad prediction is not amplified
_CLIP = 3.0
_MIN_VARIANCE = 1e-12


class NoiseSchedule(nn.Module):
    r"""How much noise an entity has at each timestep.

    Variances grow linearly: $\beta_t = \beta_{low} + \frac{t - 1}{T - 1} (\beta_{max}(\zeta) - \beta_{low})$.

    :param num_timesteps: the number $T$ of timesteps, at which (almost) only noise is left
    :param beta_low: the variance of the first step's noise, the same for all entities
    :param beta_global: the maximum variance, before it is modulated
    :param mu: the strength $\mu$ of the modulation by difficulty. With 0, all entities have the same schedule.

    :raises ValueError: if an argument is invalid
    """

    ramp: FloatTensor

    def __init__(
        self, *, num_timesteps: int = 50, beta_low: float = 1e-4, beta_global: float = 0.2, mu: float = 1.0
    ) -> None:
        """Initialise the schedule."""
        super().__init__()
        self.num_timesteps = validate_at_least("num_timesteps", num_timesteps, 1)
        self.beta_low = validate_positive("beta_low", beta_low)
        self.beta_global = validate_positive("beta_global", beta_global)
        if not self.beta_low <= self.beta_global <= MAX_BETA:
            raise ValueError(
                f"beta_global={beta_global!r} is not between beta_low={beta_low!r} and {MAX_BETA}; choose a value "
                f"within, e.g. 0.2."
            )
        self.mu = validate_non_negative("mu", mu)
        # a constant of the constructor's arguments, so that no checkpoint needs it
        ramp = torch.linspace(0.0, 1.0, self.num_timesteps, dtype=torch.double)
        self.register_buffer("ramp", ramp, persistent=False)

    def beta_max(self, difficulty: FloatTensor) -> FloatTensor:
        """Compute the maximum noise variance of one step.

        :param difficulty: shape: (n,) the difficulties, in (0, 1)

        :returns: shape: (n,) between ``beta_low`` and 0.5
        """
        return (self.beta_global * (1.0 + self.mu * difficulty)).clamp(min=self.beta_low, max=MAX_BETA)

    def alpha_bars(self, difficulty: FloatTensor) -> FloatTensor:
        """Compute the share of signal (in variance) that is left, at each timestep.

        :param difficulty: shape: (n,) the difficulties, in (0, 1)

        :returns: shape: (n, T + 1) float32, where column ``t`` belongs to timestep ``t``, and column 0 is 1
        """
        # products of many numbers near 1 want double precision, where the device has it
        beta_max = self.beta_max(difficulty if difficulty.device.type == "mps" else difficulty.double())
        betas = self.beta_low + self.ramp.to(beta_max) * (beta_max[:, None] - self.beta_low)
        left = torch.log1p(-betas).cumsum(dim=-1).exp().clamp(min=_MIN_VARIANCE)
        return torch.cat([torch.ones_like(left[:, :1]), left], dim=-1).float()


def add_noise(x0: FloatTensor, noise: FloatTensor, abar: FloatTensor) -> FloatTensor:
    """Take the forward process to a timestep at once: ``sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise``.

    :param x0: shape: (n, d) vectors
    :param noise: shape: (n, d) standard normal noise
    :param abar: shape: (n, 1) the share of signal

    :returns: shape: (n, d) noisy vectors
    """
    return abar.sqrt() * x0 + (1.0 - abar).sqrt() * noise


def predict_start(x_t: FloatTensor, predicted_noise: FloatTensor, abar_t: FloatTensor) -> FloatTensor:
    """Predict the noise-free vectors: ``(x_t - sqrt(1 - abar_t) noise) / sqrt(abar_t)``, within 3 deviations.

    :param x_t: shape: (n, d) noisy vectors
    :param predicted_noise: shape: (n, d)
    :param abar_t: shape: (n, 1) the share of signal

    :returns: shape: (n, d)
    """
    x0 = (x_t - (1.0 - abar_t).sqrt() * predicted_noise) / abar_t.clamp(min=_MIN_VARIANCE).sqrt()
    return x0.clamp(min=-_CLIP, max=_CLIP)


def ddim_step(x_t: FloatTensor, predicted_noise: FloatTensor, abar_t: FloatTensor, abar_s: FloatTensor) -> FloatTensor:
    """Take one deterministic step of DDIM from timestep t to an earlier one s < t, not necessarily the next.

    :param x_t: shape: (n, d) noisy vectors
    :param predicted_noise: shape: (n, d) the noise predicted in them
    :param abar_t: shape: (n, 1) the share of signal at t
    :param abar_s: shape: (n, 1) the share of signal at s

    :returns: shape: (n, d) the vectors at s
    """
    x0 = predict_start(x_t, predicted_noise, abar_t)
    # where the prediction was clipped, the direction is the one that agrees with it
    direction = (x_t - abar_t.sqrt() * x0) / (1.0 - abar_t).clamp(min=_MIN_VARIANCE).sqrt()
    return add_noise(x0, direction, abar_s)


def ddpm_step(
    x_t: FloatTensor, predicted_noise: FloatTensor, abar_t: FloatTensor, abar_s: FloatTensor, *, noise: FloatTensor
) -> FloatTensor:
    """Take one ancestral step of DDPM from t to s = t - 1, with the posterior's mean and variance.

    :param x_t: shape: (n, d) noisy vectors
    :param predicted_noise: shape: (n, d) the noise predicted in them
    :param abar_t: shape: (n, 1) the share of signal at t
    :param abar_s: shape: (n, 1) the share of signal at s; at s = 0, no noise is added
    :param noise: shape: (n, d) standard normal noise

    :returns: shape: (n, d) the vectors at s
    """
    x0 = predict_start(x_t, predicted_noise, abar_t)
    alpha = abar_t / abar_s
    beta = (1.0 - alpha).clamp(min=0.0)
    missing_t = (1.0 - abar_t).clamp(min=_MIN_VARIANCE)
    missing_s = 1.0 - abar_s
    mean = (abar_s.sqrt() * beta * x0 + alpha.sqrt() * missing_s * x_t) / missing_t
    return mean + (beta * missing_s / missing_t).sqrt() * noise


def strided_timesteps(num_timesteps: int, bands: Sequence[int], num_steps: int) -> list[int]:
    """Choose the timesteps of a chain with few steps.

    :param num_timesteps: the number of timesteps ``T`` of the schedule
    :param bands: the timesteps at which negatives are taken, the easiest (latest) first
    :param num_steps: how many timesteps are wanted. It is exceeded where ``T`` and the bands alone are more.

    :returns: strictly decreasing timesteps from ``T`` to the last band, with all bands among them, and the rest in the
        widest gaps

    :raises ValueError: if an argument is invalid
    """
    validate_at_least("num_steps", num_steps, 1)
    chosen = {validate_at_least("num_timesteps", num_timesteps, 1), *validate_bands("bands", bands, num_timesteps)}
    while len(chosen) < num_steps:
        ordered = sorted(chosen)
        gap, low = max(((high - low, low) for low, high in itertools.pairwise(ordered)), default=(0, 0))
        if gap < 2:
            break
        chosen.add(low + gap // 2)
    return sorted(chosen, reverse=True)
