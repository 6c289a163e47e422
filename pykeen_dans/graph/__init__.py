"""What depends on the training triples alone: queries, reference embedding, types, difficulty, structural features."""

from .graph import Graph
from .queries import HEAD, TAIL, QueryBatch, QueryIndex

__all__ = [
    "HEAD",
    "TAIL",
    "Graph",
    "QueryBatch",
    "QueryIndex",
]
