"""Entity-specific noise schedules, and the steps of the diffusion process.

In DANS-KGC, the difficulty ``zeta`` of an entity modulates the *maximum* noise variance ``beta_max`` with a strength
``mu``, and harder entities are perturbed more (from a secondary summary of the paper, which gives no formula). The
formulas of the modulation are our choice; those of the process are the ones of DDPM (Ho et al., 2020) and DDIM (Song
et al., 2021).

A schedule is computed for the rows that are asked for. No table of all entities and timesteps is ever kept.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from class_resolver import ClassResolver
from pykeen.typing import FloatTensor
from torch import nn

from ..utils.validation import (
    validate_at_least,
    validate_bands,
    validate_choice,
    validate_non_negative,
    validate_positive,
)

__all__ = [
    "CosineNoiseSchedule",
    "LinearNoiseSchedule",
    "MODULATIONS",
    "NoiseSchedule",
    "add_noise",
    "ddim_step",
    "ddpm_step",
    "noise_schedule_resolver",
    "strided_timesteps",
]

#: How difficulty modulates the maximum noise variance
MODULATIONS = ("affine", "centered", "exponential")
#: The largest variance of the noise of one step; beyond it, a chain of few steps becomes unstable
MAX_BETA = 0.5
#: The offset of the cosine schedule (Nichol & Dhariwal, 2021)
_COSINE_OFFSET = 0.008
#: The largest variance of one step in the cosine schedule (ibid.), by which it stays above 0 at the end
_COSINE_MAX_BETA = 0.999
_MIN_VARIANCE = 1e-12


class NoiseSchedule(nn.Module, ABC):
    """How much noise an entity has at each timestep.

    :param num_timesteps: the number ``T`` of timesteps, at which (almost) only noise is left
    :param beta_low: the variance of the first step's noise, the same for all entities
    :param beta_global: the maximum variance, before it is modulated
    :param mu: the strength of the modulation by difficulty. With 0, all entities have the same schedule.
    :param modulation: how the difficulty ``zeta`` modulates the maximum variance: ``affine`` is
        ``beta_global (1 + mu zeta)``, ``centered`` is ``beta_global (1 + mu (zeta - 1/2))``, and ``exponential`` is
        ``beta_global exp(mu (zeta - 1/2))``. ``affine`` is the only one by which a growing ``mu`` perturbs easy
        entities more, too, as a secondary summary of the paper says it does. All three are our choice.

    :raises ValueError: if an argument is invalid
    """

    profile: FloatTensor

    def __init__(
        self,
        *,
        num_timesteps: int = 50,
        beta_low: float = 1e-4,
        beta_global: float = 0.2,
        mu: float = 1.0,
        modulation: str = "affine",
    ) -> None:
        """Initialise the schedule."""
        super().__init__()
        self.num_timesteps: int = validate_at_least("num_timesteps", num_timesteps, 1)
        self.beta_low: float = validate_positive("beta_low", beta_low)
        self.beta_global: float = validate_positive("beta_global", beta_global)
        if not beta_low <= beta_global <= MAX_BETA:
            raise ValueError(
                f"beta_global={beta_global!r} is not between beta_low={beta_low!r} and {MAX_BETA}; choose a value "
                f"within, e.g. 0.2."
            )
        self.mu: float = validate_non_negative("mu", mu)
        self.modulation: str = validate_choice("modulation", modulation, MODULATIONS)
        # a constant of the constructor's arguments, so that no checkpoint needs it
        self.register_buffer("profile", self._profile(), persistent=False)

    @abstractmethod
    def _profile(self) -> FloatTensor:
        """Compute what all entities have in common, shape: (T,) in double precision."""

    def strength(self, difficulty: FloatTensor) -> FloatTensor:
        """Compute by which factor the maximum variance is modulated.

        :param difficulty: shape: (n,) the difficulties, in (0, 1)

        :returns: shape: (n,) factors of at least 0, in double precision where the device has it
        """
        zeta = difficulty.float() if difficulty.device.type == "mps" else difficulty.double()
        match self.modulation:
            case "affine":
                return 1.0 + self.mu * zeta
            case "centered":
                return (1.0 + self.mu * (zeta - 0.5)).clamp(min=0.0)
            case _:
                return torch.exp(self.mu * (zeta - 0.5))

    def _beta_max(self, difficulty: FloatTensor) -> FloatTensor:
        return (self.beta_global * self.strength(difficulty)).clamp(min=self.beta_low, max=MAX_BETA)

    def beta_max(self, difficulty: FloatTensor) -> FloatTensor:
        """Compute the maximum noise variance of one step.

        :param difficulty: shape: (n,) the difficulties, in (0, 1)

        :returns: shape: (n,) between ``beta_low`` and 0.5, float32
        """
        return self._beta_max(difficulty).float()

    @abstractmethod
    def log_alpha_bars(self, difficulty: FloatTensor) -> FloatTensor:
        """Compute the logarithm of the share of signal that is left.

        :param difficulty: shape: (n,) the difficulties, in (0, 1)

        :returns: shape: (n, T) in double precision where the device has it; column ``t - 1`` belongs to timestep ``t``
        """

    def alpha_bars(self, difficulty: FloatTensor) -> FloatTensor:
        """Compute the share of signal (in variance) that is left, at each timestep.

        It is computed anew at each call, for the given rows alone.

        :param difficulty: shape: (n,) the difficulties, in (0, 1)

        :returns: shape: (n, T + 1) float32, where column ``t`` belongs to timestep ``t``, and column 0 is 1
        """
        left = self.log_alpha_bars(difficulty).exp().clamp(min=_MIN_VARIANCE)
        return torch.cat([torch.ones_like(left[:, :1]), left], dim=-1).float()


class LinearNoiseSchedule(NoiseSchedule):
    """Variances grow linearly: ``beta_t = beta_low + (t - 1) / (T - 1) (beta_max(zeta) - beta_low)``."""

    def _profile(self) -> FloatTensor:
        return torch.linspace(0.0, 1.0, self.num_timesteps, dtype=torch.double)

    def log_alpha_bars(self, difficulty: FloatTensor) -> FloatTensor:  # noqa: D102
        beta_max = self._beta_max(difficulty)
        betas = self.beta_low + self.profile.to(beta_max) * (beta_max[:, None] - self.beta_low)
        return torch.log1p(-betas).cumsum(dim=-1)


class CosineNoiseSchedule(NoiseSchedule):
    """Signal falls as a squared cosine (Nichol & Dhariwal, 2021), to a power that grows with the difficulty.

    The plain schedule is ``abar_t = f(t) / f(0)`` with ``f(t) = cos((t / T + s) / (1 + s) pi / 2)^2`` and ``s =
    0.008``. It knows no variances, so the modulation acts on the speed at which signal is lost, ``abar_t ^
    strength(zeta)``, where ``strength`` is the factor of the maximum variance in the other schedules: harder entities
    are noisier at each timestep, and with ``mu = 0`` the schedule is the plain one. This is our choice. ``beta_low``
    and ``beta_global`` play no other role than to bound the factor, such that ``beta_global * strength <= 0.5``.
    """

    def _profile(self) -> FloatTensor:
        steps = torch.arange(self.num_timesteps + 1, dtype=torch.double) / self.num_timesteps
        signal = torch.cos((steps + _COSINE_OFFSET) / (1.0 + _COSINE_OFFSET) * math.pi / 2.0).square()
        betas = (1.0 - signal[1:] / signal[:-1]).clamp(max=_COSINE_MAX_BETA)
        return torch.log1p(-betas).cumsum(dim=-1)

    def log_alpha_bars(self, difficulty: FloatTensor) -> FloatTensor:  # noqa: D102
        strength = self._beta_max(difficulty) / self.beta_global
        return strength[:, None] * self.profile.to(strength)


def add_noise(x0: FloatTensor, noise: FloatTensor, abar: FloatTensor) -> FloatTensor:
    """Take the forward process to a timestep at once: ``sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise``.

    :param x0: shape: (n, d) vectors
    :param noise: shape: (n, d) standard normal noise
    :param abar: shape: (n, 1) the share of signal

    :returns: shape: (n, d) noisy vectors
    """
    return abar.sqrt() * x0 + (1.0 - abar).sqrt() * noise


def predict_start(
    x_t: FloatTensor,
    predicted_noise: FloatTensor,
    abar_t: FloatTensor,
    *,
    clip: float | None = 3.0,
) -> FloatTensor:
    """Predict the noise-free vectors: ``(x_t - sqrt(1 - abar_t) noise) / sqrt(abar_t)``.

    :param x_t: shape: (n, d) noisy vectors
    :param predicted_noise: shape: (n, d)
    :param abar_t: shape: (n, 1) the share of signal
    :param clip: the bound of the result's absolute values, in standard deviations of the space; None for no bound

    :returns: shape: (n, d)
    """
    x0 = (x_t - (1.0 - abar_t).sqrt() * predicted_noise) / abar_t.clamp(min=_MIN_VARIANCE).sqrt()
    return x0 if clip is None else x0.clamp(min=-clip, max=clip)


def ddim_step(
    x_t: FloatTensor,
    predicted_noise: FloatTensor,
    abar_t: FloatTensor,
    abar_s: FloatTensor,
    *,
    eta: float = 0.0,
    noise: FloatTensor | None = None,
    clip: float | None = 3.0,
) -> tuple[FloatTensor, FloatTensor]:
    """Take one step of DDIM (Song et al., 2021) from timestep t to an earlier one s < t, not necessarily the next.

    :param x_t: shape: (n, d) noisy vectors
    :param predicted_noise: shape: (n, d) the noise predicted in them
    :param abar_t: shape: (n, 1) the share of signal at t
    :param abar_s: shape: (n, 1) the share of signal at s
    :param eta: the amount of fresh noise: 0 for none, 1 for as much as DDPM has
    :param noise: shape: (n, d) standard normal noise, needed unless ``eta`` is 0
    :param clip: the bound of the predicted noise-free vectors' absolute values, None for no bound

    :returns: the vectors at s, and the predicted noise-free vectors, both of shape: (n, d)

    :raises ValueError: if ``eta`` is not 0, and there is no noise
    """
    if eta > 0.0 and noise is None:
        raise ValueError(f"eta={eta!r} asks for fresh noise, but noise=None; pass noise, or eta=0.")
    x0 = predict_start(x_t, predicted_noise, abar_t, clip=clip)
    missing_t = (1.0 - abar_t).clamp(min=_MIN_VARIANCE)
    # where the prediction was clipped, the direction is the one that agrees with it
    direction = (x_t - abar_t.sqrt() * x0) / missing_t.sqrt()
    if noise is None:
        return abar_s.sqrt() * x0 + (1.0 - abar_s).sqrt() * direction, x0
    variance = eta**2 * (1.0 - abar_s) / missing_t * (1.0 - abar_t / abar_s).clamp(min=0.0)
    deterministic = abar_s.sqrt() * x0 + (1.0 - abar_s - variance).clamp(min=0.0).sqrt() * direction
    return deterministic + variance.sqrt() * noise, x0


def ddpm_step(
    x_t: FloatTensor,
    predicted_noise: FloatTensor,
    abar_t: FloatTensor,
    abar_s: FloatTensor,
    *,
    noise: FloatTensor,
    clip: float | None = 3.0,
) -> tuple[FloatTensor, FloatTensor]:
    """Take one ancestral step of DDPM (Ho et al., 2020), from t to s = t - 1, with the posterior's variance.

    The mean ``(sqrt(abar_s) beta_t x_0 + sqrt(alpha_t) (1 - abar_s) x_t) / (1 - abar_t)`` is that of the posterior
    given the predicted noise-free vectors. Without clipping it equals the more usual ``(x_t - beta_t / sqrt(1 -
    abar_t) noise) / sqrt(alpha_t)``. At s = 0, no noise is added.

    :param x_t: shape: (n, d) noisy vectors
    :param predicted_noise: shape: (n, d) the noise predicted in them
    :param abar_t: shape: (n, 1) the share of signal at t
    :param abar_s: shape: (n, 1) the share of signal at s
    :param noise: shape: (n, d) standard normal noise
    :param clip: the bound of the predicted noise-free vectors' absolute values, None for no bound

    :returns: the vectors at s, and the predicted noise-free vectors, both of shape: (n, d)
    """
    x0 = predict_start(x_t, predicted_noise, abar_t, clip=clip)
    alpha = abar_t / abar_s
    beta = (1.0 - alpha).clamp(min=0.0)
    missing_t = (1.0 - abar_t).clamp(min=_MIN_VARIANCE)
    missing_s = 1.0 - abar_s
    mean = (abar_s.sqrt() * beta * x0 + alpha.sqrt() * missing_s * x_t) / missing_t
    return mean + (beta * missing_s / missing_t).sqrt() * noise, x0


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


#: A resolver for noise schedules
noise_schedule_resolver: ClassResolver[NoiseSchedule] = ClassResolver.from_subclasses(
    base=NoiseSchedule,  # type: ignore[type-abstract]
    default=LinearNoiseSchedule,
)
