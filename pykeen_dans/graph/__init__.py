"""What depends on the training triples alone: queries, reference embedding, types, difficulty, structural features."""

from .difficulty import Difficulty, difficulty_resolver
from .graph import Graph
from .queries import HEAD, TAIL, QueryBatch, QueryIndex

__all__ = [
    "HEAD",
    "TAIL",
    "Difficulty",
    "Graph",
    "QueryBatch",
    "QueryIndex",
    "difficulty_resolver",
]
