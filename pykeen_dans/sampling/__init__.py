"""Samplers whose negatives are generated.

Each differs from the others in its generator and its spaces, and in nothing else.
"""

from .base import GeneratedNegativeSampler
from .dans import TwoWayGANNegativeSampler
from .dans_kgc import DiffusionAdaptiveNegativeSampler
from .dhns import HierarchicalNegativeSampler

__all__ = [
    "DiffusionAdaptiveNegativeSampler",
    "GeneratedNegativeSampler",
    "HierarchicalNegativeSampler",
    "TwoWayGANNegativeSampler",
]
