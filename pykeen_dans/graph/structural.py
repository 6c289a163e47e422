"""Structural features of entities, from the training triples.

The paper feeds structural features into its difficulty network and lists them in an appendix that is not available.
These ten are our choice: the usual local and global centralities, since what is rare or mixed is hard to embed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pykeen.typing import FloatTensor, MappedTriples

if TYPE_CHECKING:
    from typing import TypeAlias

    Array: TypeAlias = np.ndarray[Any, Any]
    #: A :class:`scipy.sparse.csr_matrix`, whose module is imported late
    Sparse: TypeAlias = Any

__all__ = [
    "FEATURE_NAMES",
    "raw_structural_features",
    "structural_features",
]

logger = logging.getLogger(__name__)

#: The features, in the order of the columns
FEATURE_NAMES = (
    "in_degree",
    "out_degree",
    "degree",
    "distinct_incoming_relations",
    "distinct_outgoing_relations",
    "mean_neighbour_degree",
    "relation_entropy",
    "clustering_coefficient",
    "page_rank",
    "core_number",
)
#: Counts, which are shown by the logarithm of one more
_LOGARITHMIC = (0, 1, 2, 3, 4, 5, 9)

#: Beyond this number of edges of the simple graph, clustering and core number take too long
_MAX_EDGES = 1_000_000
_DAMPING = 0.85
_POWER_ITERATIONS = 50
_CHUNK = 4096


def _simple_graph(heads: Array, tails: Array, num_entities: int) -> Sparse:
    """Make the undirected graph without loops and multiple edges."""
    import scipy.sparse

    keep = heads != tails
    rows = np.concatenate([heads[keep], tails[keep]])
    columns = np.concatenate([tails[keep], heads[keep]])
    graph = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(num_entities, num_entities))
    graph.sum_duplicates()
    graph.data[:] = 1.0
    return graph


def _distinct_relations(entities: Array, relations: Array, num_entities: int, num_relations: int) -> Array:
    pairs = np.unique(entities * num_relations + relations)
    return np.bincount(pairs // max(num_relations, 1), minlength=num_entities)


def _relation_entropy(entities: Array, relations: Array, num_entities: int, num_relations: int) -> Array:
    """Compute the entropy (in nats) of the relations of the triples in which an entity occurs."""
    pairs, counts = np.unique(entities * num_relations + relations, return_counts=True)
    owners = pairs // max(num_relations, 1)
    total = np.bincount(entities, minlength=num_entities)
    share = counts / total[owners]
    return np.bincount(owners, weights=-share * np.log(share), minlength=num_entities)


def _triangles(graph: Sparse) -> Array:
    """Count the triangles through each vertex.

    Edges are directed from lower to higher degree, by which no vertex has more than sqrt(2 m) successors.
    """
    import scipy.sparse

    num_vertices = graph.shape[0]
    degree = np.diff(graph.indptr)
    order = np.empty(num_vertices, dtype=np.int64)
    order[np.lexsort((np.arange(num_vertices), degree))] = np.arange(num_vertices)
    edges = graph.tocoo()
    up = order[edges.row] < order[edges.col]
    directed = scipy.sparse.csr_matrix((np.ones(int(up.sum())), (edges.row[up], edges.col[up])), shape=graph.shape)
    transposed = directed.T.tocsr()
    count = np.zeros(num_vertices)
    for start in range(0, num_vertices, _CHUNK):
        rows = slice(start, start + _CHUNK)
        # u -> v -> w and u -> w: u is the lowest and w the highest vertex
        outer = (directed[rows] @ directed).multiply(directed[rows])
        count[rows] += np.asarray(outer.sum(axis=1)).ravel()
        count += np.asarray(outer.sum(axis=0)).ravel()
        # u -> v, u -> w and v -> w: v is the middle one
        inner = (transposed[rows] @ directed).multiply(directed[rows])
        count[rows] += np.asarray(inner.sum(axis=1)).ravel()
    return count


def _clustering(graph: Sparse) -> Array:
    degree = np.diff(graph.indptr).astype(float)
    possible = degree * (degree - 1.0) / 2.0
    return np.divide(_triangles(graph), possible, out=np.zeros_like(possible), where=possible > 0)


def _page_rank(heads: Array, tails: Array, num_entities: int) -> Array:
    """Compute PageRank from heads to tails, by power iteration, where a multiple edge counts several times."""
    import scipy.sparse

    out_degree = np.bincount(heads, minlength=num_entities).astype(float)
    weights = 1.0 / out_degree[heads]
    step = scipy.sparse.csr_matrix((weights, (tails, heads)), shape=(num_entities, num_entities))
    dangling = out_degree == 0
    rank = np.full(num_entities, 1.0 / num_entities)
    for _ in range(_POWER_ITERATIONS):
        followed = step @ rank + rank[dangling].sum() / num_entities
        rank = (1.0 - _DAMPING) / num_entities + _DAMPING * followed
    return rank


def _core_number(graph: Sparse) -> Array:
    """Compute core numbers, by peeling off all vertices of the lowest degree at once."""
    degree = np.diff(graph.indptr).astype(np.int64)
    core = np.zeros_like(degree)
    left = np.arange(len(degree))
    level = 0
    while len(left):
        level = max(level, int(degree[left].min()))
        peeled = left[degree[left] <= level]
        core[peeled] = level
        left = left[degree[left] > level]
        # those already gone lose degree as well, but are not looked at again
        degree -= np.bincount(graph[peeled].indices, minlength=len(degree))
    return core


def raw_structural_features(mapped_triples: MappedTriples, num_entities: int, num_relations: int) -> FloatTensor:
    """Compute the features, before they are scaled.

    :param mapped_triples: shape: (num_triples, 3) the training triples
    :param num_entities: the number of entities
    :param num_relations: the number of relations

    :returns: shape: (num_entities, 10) float64, see :data:`FEATURE_NAMES`
    """
    heads, relations, tails = mapped_triples.detach().cpu().long().numpy().T
    graph = _simple_graph(heads, tails, num_entities)
    neighbours = np.diff(graph.indptr).astype(float)
    in_degree = np.bincount(tails, minlength=num_entities)
    out_degree = np.bincount(heads, minlength=num_entities)
    ends, both = np.concatenate([heads, tails]), np.concatenate([relations, relations])
    clustering = core = np.zeros(num_entities)
    if graph.nnz // 2 <= _MAX_EDGES:
        clustering, core = _clustering(graph), _core_number(graph)
    else:
        logger.info(
            "Leaving out the clustering coefficient and the core number: the graph has %d edges, more than %d.",
            graph.nnz // 2,
            _MAX_EDGES,
        )
    columns = [
        in_degree,
        out_degree,
        in_degree + out_degree,
        _distinct_relations(tails, relations, num_entities, num_relations),
        _distinct_relations(heads, relations, num_entities, num_relations),
        np.divide(graph @ neighbours, neighbours, out=np.zeros_like(neighbours), where=neighbours > 0),
        _relation_entropy(ends, both, num_entities, num_relations),
        clustering,
        _page_rank(heads, tails, num_entities),
        core,
    ]
    return torch.as_tensor(np.stack([np.asarray(column, dtype=float) for column in columns], axis=-1))


def structural_features(mapped_triples: MappedTriples, num_entities: int, num_relations: int) -> FloatTensor:
    """Compute the features of entities, each with mean 0 and variance 1.

    Counts are shown by the logarithm of one more, PageRank by the logarithm of its multiple of the mean. The time is
    linear in the number of triples, but for triangles (at most its power of 3/2, and none beyond a million edges).

    :param mapped_triples: shape: (num_triples, 3) the training triples
    :param num_entities: the number of entities
    :param num_relations: the number of relations

    :returns: shape: (num_entities, 10) float32, see :data:`FEATURE_NAMES`; zeros where all entities are alike
    """
    if num_entities == 0:
        return torch.zeros(0, len(FEATURE_NAMES))
    features = raw_structural_features(mapped_triples, num_entities, num_relations)
    features[:, _LOGARITHMIC] = features[:, _LOGARITHMIC].log1p()
    features[:, 8] = (features[:, 8] * num_entities).log()
    features = features - features.mean(dim=0)
    deviation = features.std(dim=0, unbiased=False)
    constant = deviation < 1e-9
    return torch.where(constant, 0.0, features / torch.where(constant, 1.0, deviation)).float()
