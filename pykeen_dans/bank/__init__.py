"""Queries, and the bank of generated entity ids that the hot path reads."""

from .bank import NegativeBank
from .queries import HEAD, TAIL, QueryBatch, QueryIndex

__all__ = [
    "HEAD",
    "TAIL",
    "NegativeBank",
    "QueryBatch",
    "QueryIndex",
]
