"""Curricula: from the progress of training to the mix of negatives.

DANS-KGC draws negatives of four hardness bands with weights that shift smoothly from easy to hard at some rate, and
uses "stage-aware weighted margins" (both from a secondary summary of the paper, which gives no formula). All formulas
in this module are our choice, unless a source is named.

A curriculum is a pure function of the progress of training in [0, 1]. A *pacing function* maps the progress to the
phase ``p`` in [0, 1], where 0 is the easy end and 1 the hard end. All else follows from the phase:

- the weight of band ``k`` of ``K``, the easiest being ``k = 1``, is ``softmax_k(kappa (2p - 1) (k - (K + 1) / 2))``;
- the share of generated negatives moves from the first to the second of the two given numbers;
- the margin is the mean of the bands' margins under these weights.

Where bands have two axes, as the timesteps and the modalities of DHNS, the same softmax is taken on each of them, and a
band's weight is the product: both move from their easy to their hard end. Margins go by the first axis.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from class_resolver import ClassResolver

from ..utils.validation import (
    make_by_name,
    validate_at_least,
    validate_finite,
    validate_non_negative,
    validate_positive,
    validate_share,
)

__all__ = [
    "CompetenceCurriculum",
    "ConstantCurriculum",
    "CosineCurriculum",
    "Curriculum",
    "CurriculumState",
    "ExponentialCurriculum",
    "LinearCurriculum",
    "ReversedCurriculum",
    "StepCurriculum",
    "curriculum_resolver",
]

#: The share of generated negatives at the easy and at the hard end, where nothing else is asked for. It falls, as
#: harder ones are wrong more often: on the validation triples of CoDEx-S this did better than a constant or a growing
#: share (``benchmarks/results/validation_trials.jsonl``).
DEFAULT_SHARE = (0.5, 0.0)
#: The factor of the loss' margin at equally spaced hardness, easy first
DEFAULT_MARGINS = (1.0, 0.85, 0.7, 0.55)


@dataclasses.dataclass(frozen=True)
class CurriculumState:
    """What a curriculum asks for at one moment of training.

    :param weights: the sampling weight of each band, easy first; they sum to 1. Of two axes, the second one (the
        semantic level) is the faster.
    :param share: the share of generated among all negatives, in [0, 1]
    :param margin_factor: the factor by which the loss' margin is multiplied
    :param num_levels: the number of semantic levels, the length of the second axis
    :param margin_factors: the factor of each hardness level, easy first; where there are none, it is ``margin_factor``
        for all of them
    """

    weights: tuple[float, ...]
    share: float
    margin_factor: float
    num_levels: int = 1
    margin_factors: tuple[float, ...] = ()

    @property
    def hardness_weights(self) -> tuple[float, ...]:
        """The weight of each hardness level, over all semantic levels, easy first."""
        return _sum_levels(self.weights, self.num_levels)

    @property
    def hardness(self) -> float:
        """The expected hardness, 0 if only the easiest level is drawn, and 1 if only the hardest is."""
        weights = self.hardness_weights
        last = max(1, len(weights) - 1)
        return sum(k / last * weight for k, weight in enumerate(weights))


def _sum_levels(weights: Sequence[float], num_levels: int) -> tuple[float, ...]:
    """Sum over the second of two axes."""
    return tuple(sum(weights[start : start + num_levels]) for start in range(0, len(weights), num_levels))


def _softmax(logits: Sequence[float]) -> tuple[float, ...]:
    top = max(logits)
    exponents = [math.exp(logit - top) for logit in logits]
    total = sum(exponents)
    return tuple(exponent / total for exponent in exponents)


def _interpolate(values: Sequence[float], position: float) -> float:
    """Interpolate equally spaced values at a position in [0, 1]."""
    scaled = position * (len(values) - 1)
    low = min(int(scaled), max(0, len(values) - 2))
    high = min(low + 1, len(values) - 1)
    return values[low] + (scaled - low) * (values[high] - values[low])


class Curriculum(ABC):
    """From the progress of training to the weights of bands, the share of generated negatives and the margin.

    :param share: the share of generated negatives in [0, 1], or a pair of its value at the easy and at the hard end
    :param kappa: how far the weights of neighbouring bands are apart at both ends; 0 means equal weights throughout
    :param margins: the factors of the loss' margin from the easiest to the hardest band. They are interpolated where
        their number is not that of the bands. Easy negatives are to be pushed far, those close to a positive less.

    :raises ValueError: if an argument is invalid
    """

    def __init__(
        self,
        *,
        share: float | Sequence[float] = DEFAULT_SHARE,
        kappa: float = 1.0,
        margins: Sequence[float] = DEFAULT_MARGINS,
    ) -> None:
        """Initialise the curriculum."""
        shares = tuple(share) if isinstance(share, Sequence) and not isinstance(share, str) else (share, share)
        if len(shares) != 2:
            raise ValueError(f"share={share!r} has {len(shares)} values; give one number or a pair (start, end).")
        self.shares: tuple[float, float] = (validate_share("share", shares[0]), validate_share("share", shares[1]))
        self.kappa: float = validate_non_negative("kappa", kappa)
        if not margins:
            raise ValueError(f"margins={margins!r} is empty; give one factor or more, e.g. {DEFAULT_MARGINS!r}.")
        self.margins: tuple[float, ...] = tuple(validate_positive("margins", margin) for margin in margins)

    @abstractmethod
    def pacing(self, progress: float) -> float:
        """Map progress to the phase.

        :param progress: the progress in [0, 1]

        :returns: the phase in [0, 1], where 0 is easy and 1 is hard
        """

    def weights(self, progress: float, *, num_bands: int) -> tuple[float, ...]:
        """Compute the weights of the bands along one axis.

        :param progress: the progress in [0, 1]
        :param num_bands: the number of bands

        :returns: one weight per band, easy first, whose sum is 1
        """
        tilt = self.kappa * (2.0 * self.pacing(progress) - 1.0)
        return _softmax([tilt * (k - (num_bands - 1) / 2.0) for k in range(num_bands)])

    def margin_factor(self, weights: Sequence[float]) -> float:
        """Mix the bands' margins by their weights.

        :param weights: the weights of the bands, easy first

        :returns: the factor of the loss' margin
        """
        factors = self.margin_factors(len(weights))
        return sum(weight * factor for weight, factor in zip(weights, factors, strict=True))

    def margin_factors(self, num_bands: int) -> tuple[float, ...]:
        """Tell the margin of each band on its own.

        :param num_bands: the number of bands

        :returns: the factors of the loss' margin, easy first
        """
        last = max(1, num_bands - 1)
        return tuple(_interpolate(self.margins, k / last) for k in range(num_bands))

    def __call__(
        self,
        progress: float,
        *,
        num_bands: int = 4,
        num_levels: int = 1,
        preferences: Sequence[float] | None = None,
    ) -> CurriculumState:
        """Tell what is asked for at one moment of training.

        :param progress: the progress; values outside [0, 1], as from training that goes on longer than planned, count
            as the closer end
        :param num_bands: the number of bands of hardness
        :param num_levels: the number of semantic levels. Each band exists at each of them.
        :param preferences: factors of the weights, one for each pair of band and level, the level being the faster
            axis; they need not sum to anything. Default: all alike

        :returns: the state
        """
        validate_at_least("num_bands", num_bands, 1)
        validate_at_least("num_levels", num_levels, 1)
        progress = min(1.0, max(0.0, validate_finite("progress", progress)))
        levels = self.weights(progress, num_bands=num_levels)
        weights = tuple(band * level for band in self.weights(progress, num_bands=num_bands) for level in levels)
        if preferences is not None:
            preferred = [weight * factor for weight, factor in zip(weights, preferences, strict=True)]
            weights = tuple(weight / sum(preferred) for weight in preferred)
        start, end = self.shares
        share = start + self.pacing(progress) * (end - start)
        return CurriculumState(
            weights=weights,
            share=min(max(start, end), max(min(start, end), share)),
            margin_factor=self.margin_factor(_sum_levels(weights, num_levels)),
            num_levels=num_levels,
            margin_factors=self.margin_factors(num_bands),
        )


class ExponentialCurriculum(Curriculum):
    """From easy to hard, quickly at first: ``p = (1 - exp(-rate x)) / (1 - exp(-rate))``.

    :param rate: the rate, ``lambda`` in the paper: the larger, the sooner hard negatives come
    """

    def __init__(
        self,
        *,
        rate: float = 3.0,
        share: float | Sequence[float] = DEFAULT_SHARE,
        kappa: float = 1.0,
        margins: Sequence[float] = DEFAULT_MARGINS,
    ) -> None:
        """Initialise the curriculum."""
        super().__init__(share=share, kappa=kappa, margins=margins)
        self.rate: float = validate_positive("rate", rate)

    def pacing(self, progress: float) -> float:  # noqa: D102
        return math.expm1(-self.rate * progress) / math.expm1(-self.rate)


class LinearCurriculum(Curriculum):
    """From easy to hard at a constant speed: ``p = x``."""

    def pacing(self, progress: float) -> float:  # noqa: D102
        return progress


class CosineCurriculum(Curriculum):
    """From easy to hard, slowly at both ends: ``p = (1 - cos(pi x)) / 2``."""

    def pacing(self, progress: float) -> float:  # noqa: D102
        return (1.0 - math.cos(math.pi * progress)) / 2.0


class StepCurriculum(Curriculum):
    """From easy to hard in equal stages: ``p = min(floor(n x), n - 1) / (n - 1)``.

    :param num_steps: the number ``n`` of stages
    """

    def __init__(
        self,
        *,
        num_steps: int = 4,
        share: float | Sequence[float] = DEFAULT_SHARE,
        kappa: float = 1.0,
        margins: Sequence[float] = DEFAULT_MARGINS,
    ) -> None:
        """Initialise the curriculum."""
        super().__init__(share=share, kappa=kappa, margins=margins)
        self.num_steps: int = validate_at_least("num_steps", num_steps, 2)

    def pacing(self, progress: float) -> float:  # noqa: D102
        return min(int(self.num_steps * progress), self.num_steps - 1) / (self.num_steps - 1)


class CompetenceCurriculum(Curriculum):
    """From easy to hard by the learner's competence (Platanios et al., 2019): ``p = sqrt(x (1 - c0^2) + c0^2)``.

    :param initial: the initial competence ``c0``, in [0, 1]
    """

    def __init__(
        self,
        *,
        initial: float = 0.01,
        share: float | Sequence[float] = DEFAULT_SHARE,
        kappa: float = 1.0,
        margins: Sequence[float] = DEFAULT_MARGINS,
    ) -> None:
        """Initialise the curriculum."""
        super().__init__(share=share, kappa=kappa, margins=margins)
        self.initial: float = validate_share("initial", initial)

    def pacing(self, progress: float) -> float:  # noqa: D102
        return min(1.0, math.sqrt(progress * (1.0 - self.initial**2) + self.initial**2))


class ConstantCurriculum(Curriculum):
    """All bands alike throughout, and the loss' own margin: the paper's ablation "w/o DTM".

    The phase is 1/2, so that of a pair of shares the mean is used.
    """

    def pacing(self, progress: float) -> float:  # noqa: D102
        return 0.5

    def margin_factors(self, num_bands: int) -> tuple[float, ...]:  # noqa: D102
        return (1.0,) * num_bands


class ReversedCurriculum(Curriculum):
    """From hard to easy: ``p = 1 - p`` of another curriculum, whose own share, kappa and margins are not used.

    :param inner: the name of the other curriculum
    :param inner_kwargs: its keyword arguments
    """

    def __init__(
        self,
        *,
        inner: str = "exponential",
        inner_kwargs: Mapping[str, Any] | None = None,
        share: float | Sequence[float] = DEFAULT_SHARE,
        kappa: float = 1.0,
        margins: Sequence[float] = DEFAULT_MARGINS,
    ) -> None:
        """Initialise the curriculum."""
        super().__init__(share=share, kappa=kappa, margins=margins)
        self.inner: Curriculum = make_by_name("inner", curriculum_resolver, inner, inner_kwargs)

    def pacing(self, progress: float) -> float:  # noqa: D102
        return 1.0 - self.inner.pacing(progress)


#: A resolver for curricula
curriculum_resolver: ClassResolver[Curriculum] = ClassResolver.from_subclasses(
    base=Curriculum,  # type: ignore[type-abstract]
    default=LinearCurriculum,
)
