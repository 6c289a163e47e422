"""Generators of vectors near which negatives are found, one file each."""

from .base import FitReport, Generator, generator_resolver
from .diffusion import DiffusionGenerator
from .gan import TwoWayGANGenerator
from .prior import PriorGenerator
from .ridge import RidgeGenerator
from .uniform import UniformGenerator

__all__ = [
    "DiffusionGenerator",
    "FitReport",
    "Generator",
    "PriorGenerator",
    "RidgeGenerator",
    "TwoWayGANGenerator",
    "UniformGenerator",
    "generator_resolver",
]
