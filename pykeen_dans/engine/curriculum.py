r"""Curricula: from the progress of training to the mix of hardness bands.

DANS-KGC draws negatives of four hardness bands with weights that shift smoothly from easy to hard at some rate, and
uses "stage-aware weighted margins" (both from a secondary summary of the paper, which gives no formula). All formulas
in this module are our choice.

A curriculum maps the progress $x$ of training in [0, 1] to a phase $p$ in [0, 1], where 0 is the easy end and 1 the
hard end. All else follows from the phase: the weight of band $k$ of $K$, the easiest being $k = 1$, is
$\operatorname{softmax}_k (\kappa (2p - 1) (k - (K + 1) / 2))$, and the margin is the mean of the bands' margins under
these weights. How many negatives are generated is no matter of the curriculum.

Where the sources of a generator go from easy to hard, as the modalities of DHNS, the same weights are taken along them.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from class_resolver import ClassResolver
from scipy.special import softmax

from ..utils.validation import (
    validate_at_least,
    validate_finite,
    validate_non_negative,
    validate_numbers,
    validate_positive,
)

__all__ = [
    "ConstantCurriculum",
    "Curriculum",
    "CurriculumState",
    "ExponentialCurriculum",
    "LinearCurriculum",
    "ReversedCurriculum",
    "curriculum_resolver",
]

#: The factor of the loss' margin at equally spaced hardness, easy first
DEFAULT_MARGINS = (1.0, 0.85, 0.7, 0.55)


@dataclasses.dataclass(frozen=True)
class CurriculumState:
    """What a curriculum asks for at one moment of training.

    :param band_weights: the weight of each hardness band, easy first, whose sum is 1
    :param source_weights: the weight of each source, whose sum is 1
    :param margin_factors: the factor of the loss' margin for each band
    """

    band_weights: tuple[float, ...]
    source_weights: tuple[float, ...]
    margin_factors: tuple[float, ...]

    @property
    def margin_factor(self) -> float:
        """The factor of the loss' margin at this stage, the mean of those of the bands."""
        return float(np.dot(self.band_weights, self.margin_factors))

    @property
    def hardness(self) -> float:
        """The expected hardness, 0 if only the easiest band is drawn, and 1 if only the hardest is."""
        return float(np.dot(self.band_weights, np.linspace(0.0, 1.0, len(self.band_weights))))


class Curriculum(ABC):
    """From the progress of training to the weights of bands.

    :param kappa: how far the weights of neighbouring bands are apart at both ends; 0 means equal weights throughout
    :param margins: the factors of the loss' margin from the easiest to the hardest band. They are interpolated where
        their number is not that of the bands. Easy negatives are to be pushed far, those close to a positive less.

    :raises ValueError: if an argument is invalid
    """

    def __init__(self, *, kappa: float = 1.0, margins: Sequence[float] = DEFAULT_MARGINS) -> None:
        """Initialise the curriculum."""
        self.kappa = validate_non_negative("kappa", kappa)
        self.margins = tuple(validate_positive("margins", margin) for margin in validate_numbers("margins", margins))
        if not self.margins:
            raise ValueError(f"margins={margins!r} is empty; give one factor or more, e.g. {DEFAULT_MARGINS!r}.")

    @abstractmethod
    def phase(self, progress: float) -> float:
        """Map progress to the phase.

        :param progress: the progress in [0, 1]

        :returns: the phase in [0, 1], where 0 is easy and 1 is hard
        """

    def weights(self, progress: float, *, number: int) -> tuple[float, ...]:
        """Compute weights along one axis.

        :param progress: the progress in [0, 1]
        :param number: the number of bands, or of sources

        :returns: one weight for each, easy first, whose sum is 1
        """
        tilt = self.kappa * (2.0 * self.phase(progress) - 1.0)
        return tuple(softmax(tilt * np.arange(number)).tolist())

    def margin_factors(self, num_bands: int) -> tuple[float, ...]:
        """Tell the margin of each band.

        :param num_bands: the number of bands

        :returns: the factors of the loss' margin, easy first
        """
        known = np.linspace(0.0, 1.0, len(self.margins))
        return tuple(np.interp(np.linspace(0.0, 1.0, num_bands), known, self.margins).tolist())

    def __call__(
        self, progress: float, *, num_bands: int, num_sources: int = 1, ordered: bool = False
    ) -> CurriculumState:
        """Tell what is asked for at one moment of training.

        :param progress: the progress; values outside [0, 1], as from training that goes on longer than planned, count
            as the closer end
        :param num_bands: the number of bands of hardness
        :param num_sources: the number of sources of each band
        :param ordered: whether the sources go from easy to hard; else all have the same weight

        :returns: the state
        """
        validate_at_least("num_bands", num_bands, 1)
        validate_at_least("num_sources", num_sources, 1)
        progress = min(1.0, max(0.0, validate_finite("progress", progress)))
        return CurriculumState(
            band_weights=self.weights(progress, number=num_bands),
            source_weights=(
                self.weights(progress, number=num_sources) if ordered else (1.0 / num_sources,) * num_sources
            ),
            margin_factors=self.margin_factors(num_bands),
        )


class LinearCurriculum(Curriculum):
    """From easy to hard at a constant speed: ``p = x``."""

    def phase(self, progress: float) -> float:  # noqa: D102
        return progress


class ExponentialCurriculum(Curriculum):
    """From easy to hard, quickly at first: ``p = (1 - exp(-rate x)) / (1 - exp(-rate))``.

    :param rate: the rate, ``lambda`` in the paper: the larger, the sooner hard negatives come; a negative one is slow
        at first, and 0 is linear
    :param kappa: see :class:`Curriculum`
    :param margins: see :class:`Curriculum`
    """

    def __init__(self, *, rate: float = 3.0, kappa: float = 1.0, margins: Sequence[float] = DEFAULT_MARGINS) -> None:
        """Initialise the curriculum."""
        super().__init__(kappa=kappa, margins=margins)
        self.rate = validate_finite("rate", rate)

    def phase(self, progress: float) -> float:  # noqa: D102
        return math.expm1(-self.rate * progress) / math.expm1(-self.rate) if self.rate else progress


class ReversedCurriculum(ExponentialCurriculum):
    """From hard to easy: ``1 - p`` of the exponential curriculum, linear by default.

    :param rate: its rate
    :param kappa: see :class:`Curriculum`
    :param margins: see :class:`Curriculum`
    """

    def __init__(self, *, rate: float = 0.0, kappa: float = 1.0, margins: Sequence[float] = DEFAULT_MARGINS) -> None:
        """Initialise the curriculum."""
        super().__init__(rate=rate, kappa=kappa, margins=margins)

    def phase(self, progress: float) -> float:  # noqa: D102
        return 1.0 - super().phase(progress)


class ConstantCurriculum(Curriculum):
    """All bands alike throughout, and so a constant margin: the paper's ablation "w/o DTM"."""

    def phase(self, progress: float) -> float:  # noqa: D102
        return 0.5


#: A resolver for curricula
curriculum_resolver: ClassResolver[Curriculum] = ClassResolver.from_subclasses(
    base=Curriculum,  # type: ignore[type-abstract]
    default=LinearCurriculum,
)
