"""Samplers whose negatives are generated.

Each differs from the others in its generator and its spaces, and in nothing else.
"""

from .base import GeneratedNegativeSampler
from .diffusion_adaptive import DiffusionAdaptiveNegativeSampler
from .hierarchical import HierarchicalNegativeSampler
from .two_way_gan import TwoWayGANNegativeSampler

__all__ = [
    "DiffusionAdaptiveNegativeSampler",
    "GeneratedNegativeSampler",
    "HierarchicalNegativeSampler",
    "TwoWayGANNegativeSampler",
]
