"""The bank of generated entity ids that the hot path reads, and how they are found."""

from .bank import NegativeBank
from .decoder import SpreadDecoder

__all__ = [
    "NegativeBank",
    "SpreadDecoder",
]
