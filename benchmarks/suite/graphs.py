"""Synthetic graphs of any size, with the degrees of FB15k-237.

Heads and tails of FB15k-237 each follow a law of Zipf and Mandelbrot: the entity of relative rank u, which is between 0
and 1, has a share of the triples in proportion to (u + shift) ** -exponent. In relative ranks the law has the same
shape at every size, with 18.8 triples for each entity. The relations follow one, too. Nothing but the degrees is as in
FB15k-237: heads, relations and tails are drawn independently. So there are *more* distinct queries than in the real
graph, 1.4 instead of 0.55 for each triple, and a bank needs more room.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from pykeen.typing import MappedTriples
from scipy import optimize

__all__ = [
    "FB15K237",
    "DegreeLaw",
    "GraphLaw",
    "fit_degree_law",
    "synthetic_graph",
]


@dataclasses.dataclass(frozen=True)
class DegreeLaw:
    """A law of Zipf and Mandelbrot in relative ranks.

    :param exponent: how steeply the degree falls with the rank
    :param shift: the relative rank up to which the law is flat
    """

    exponent: float
    shift: float

    def probabilities(self, size: int) -> NDArray[np.float64]:
        """Tell the share of each rank.

        :param size: the number of ranks

        :returns: shape: (size,) falling, the sum is 1
        """
        weights = ((np.arange(size) + 0.5) / size + self.shift) ** -self.exponent
        return weights / weights.sum()


@dataclasses.dataclass(frozen=True)
class GraphLaw:
    """What a synthetic graph is drawn from.

    :param heads: the law of heads
    :param tails: the law of tails
    :param relations: the law of relations
    :param num_relations: the number of relations, the same at all sizes
    :param triples_per_entity: the number of triples for each entity
    """

    heads: DegreeLaw
    tails: DegreeLaw
    relations: DegreeLaw
    num_relations: int
    triples_per_entity: float


#: As :func:`fit_degree_law` finds it in the training triples of FB15k-237
FB15K237 = GraphLaw(
    heads=DegreeLaw(exponent=0.749, shift=4.35e-3),
    tails=DegreeLaw(exponent=0.814, shift=9.56e-5),
    relations=DegreeLaw(exponent=1.663, shift=5.68e-2),
    num_relations=237,
    triples_per_entity=18.76,
)


def fit_degree_law(ids: NDArray[np.int64], size: int) -> DegreeLaw:
    """Fit the law to a column of triples, by maximum likelihood.

    :param ids: shape: (n,) entities or relations
    :param size: the number of entities or relations

    :returns: the law
    """
    counts = np.sort(np.bincount(ids, minlength=size))[::-1]

    def loss(parameters: NDArray[np.float64]) -> float:
        law = DegreeLaw(exponent=float(parameters[0]), shift=float(np.exp(parameters[1])))
        return -float(counts @ np.log(law.probabilities(size))) / len(ids)

    found = optimize.minimize(
        loss, x0=[1.0, np.log(0.01)], method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-8}
    )
    return DegreeLaw(exponent=float(found.x[0]), shift=float(np.exp(found.x[1])))


def synthetic_graph(num_triples: int, *, law: GraphLaw = FB15K237, seed: int = 0) -> tuple[MappedTriples, int, int]:
    """Draw a graph of distinct triples, in which every entity and relation occurs.

    :param num_triples: the number of triples
    :param law: the law of its degrees
    :param seed: the random seed

    :returns: shape: (num_triples, 3) the triples, and the numbers of entities and of relations

    :raises ValueError: if there are fewer triples than are needed for every entity and relation
    """
    num_entities = max(2, round(num_triples / law.triples_per_entity))
    num_relations = law.num_relations
    if num_triples < 2 * max(num_entities, num_relations):
        raise ValueError(f"num_triples={num_triples} is too small; at least {2 * num_relations} are needed.")
    random = np.random.default_rng(seed)
    # the entities that are frequent as heads are not those that are frequent as tails, and ids tell nothing of degrees
    names = [random.permutation(num_entities) for _ in range(2)]
    columns = (
        (law.heads.probabilities(num_entities), names[0]),
        (law.relations.probabilities(num_relations), np.arange(num_relations)),
        (law.tails.probabilities(num_entities), names[1]),
    )

    def draw(size: int) -> NDArray[np.int64]:
        parts = [name[random.choice(len(p), size=size, p=p)] for p, name in columns]
        return (parts[0] * num_relations + parts[1]) * num_entities + parts[2]

    # once each, so that none of them is missing
    size = max(num_entities, num_relations)
    everyone = np.arange(size)
    keys = np.unique(
        (everyone % num_entities * num_relations + everyone % num_relations) * num_entities
        + random.permutation(size) % num_entities
    )
    while len(keys) < num_triples:
        # never more than are wanted, so that none of the first ones has to go again
        keys = np.unique(np.concatenate([keys, draw(num_triples - len(keys))]))
    head_and_relation, tails = np.divmod(keys, num_entities)
    heads, relations = np.divmod(head_and_relation, num_relations)
    triples = torch.from_numpy(np.stack([heads, relations, tails], axis=-1))
    return triples[torch.from_numpy(random.permutation(len(triples)))], num_entities, num_relations
