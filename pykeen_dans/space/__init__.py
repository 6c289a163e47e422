"""The spaces in which negatives are generated."""

from .combination import Combination, LearnedCombination, combination_for
from .entity_space import (
    EntitySpace,
    NonFiniteSpaceError,
    UnsupportedModelError,
    live_space,
    real_view,
    reference_space,
)

__all__ = [
    "Combination",
    "EntitySpace",
    "LearnedCombination",
    "NonFiniteSpaceError",
    "UnsupportedModelError",
    "combination_for",
    "live_space",
    "real_view",
    "reference_space",
]
