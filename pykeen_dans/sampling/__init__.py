"""Samplers whose negatives are generated, and one whose negatives are given.

Each of the former differs from the others in its generator and its spaces, and in nothing else.
"""

from .base import GeneratedNegativeSampler
from .dans import TwoWayGANNegativeSampler
from .dans_kgc import DiffusionAdaptiveNegativeSampler
from .dhns import HierarchicalNegativeSampler
from .fixed import FixedNegativeSampler

__all__ = [
    "DiffusionAdaptiveNegativeSampler",
    "FixedNegativeSampler",
    "GeneratedNegativeSampler",
    "HierarchicalNegativeSampler",
    "TwoWayGANNegativeSampler",
]
