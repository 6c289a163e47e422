"""Rank-based metrics that PyKEEN lacks."""

from .metrics import NDCGAtK

__all__ = [
    "NDCGAtK",
]
