"""Data sets that PyKEEN lacks. They are registered with PyKEEN, and are available there by name.

>>> from pykeen.datasets import get_dataset
>>> dataset = get_dataset(dataset="family")  # doctest: +SKIP

This module is imported by PyKEEN at the end of ``pykeen/datasets/__init__.py``, possibly while other parts of PyKEEN
are half imported. Hence it imports from :mod:`pykeen.datasets.base` only.
"""

from .base import DecodedDataset, OpenKEDataset
from .family import Family
from .multimodal import DB15K, MKGW, MKGY, MultimodalDataset
from .nell import NELL995

__all__ = [
    # Base classes
    "DecodedDataset",
    "MultimodalDataset",
    "OpenKEDataset",
    # Concrete classes
    "DB15K",
    "Family",
    "MKGW",
    "MKGY",
    "NELL995",
]
