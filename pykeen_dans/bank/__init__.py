"""The bank of generated entity ids that the hot path reads."""

from .bank import NegativeBank

__all__ = [
    "NegativeBank",
]
