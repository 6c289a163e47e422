"""Synthetic graphs of any size, whose data set is called ``synthetic`` and the number of entities.

Heads, relations and tails each follow the law of Zipf and Mandelbrot that fits FB15k-237: in relative ranks u, a share
of triples in proportion to (u + shift) ** -exponent. They are drawn independently, so that there are more distinct
queries than in real graphs, and a bank needs more room.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pykeen.datasets import Dataset, EagerDataset
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import MappedTriples

#: Exponent and shift of heads, relations and tails of FB15k-237, by maximum likelihood
LAWS = ((0.749, 4.35e-3), (1.663, 5.68e-2), (0.814, 9.56e-5))
NUM_RELATIONS = 237
TRIPLES_PER_ENTITY = 5


def synthetic_triples(num_entities: int, *, seed: int = 0) -> MappedTriples:
    """Draw distinct triples, in which every entity and relation occurs.

    :raises ValueError: if there are fewer entities than relations
    """
    if num_entities < NUM_RELATIONS:
        raise ValueError(f"num_entities={num_entities} is too small; at least {NUM_RELATIONS} are needed.")
    random = np.random.default_rng(seed)
    columns = []
    for (exponent, shift), size in zip(LAWS, (num_entities, NUM_RELATIONS, num_entities), strict=True):
        weights = ((np.arange(size) + 0.5) / size + shift) ** -exponent
        rest = random.choice(size, size=(TRIPLES_PER_ENTITY - 1) * num_entities, p=weights / weights.sum())
        # once each, so that none of them is missing; ids tell nothing of degrees, nor heads of tails
        columns.append(random.permutation(size)[np.concatenate([np.arange(num_entities) % size, rest])])
    triples = np.unique(np.stack(columns, axis=-1), axis=0)
    return torch.from_numpy(triples[random.permutation(len(triples))])


def synthetic_dataset(num_entities: int, *, create_inverse_triples: bool) -> Dataset:
    """Make a data set, whose evaluation triples are a few of training."""
    triples = synthetic_triples(num_entities)
    sizes: dict[str, Any] = {"num_entities": num_entities, "num_relations": NUM_RELATIONS}
    training = CoreTriplesFactory(triples, **sizes, create_inverse_triples=create_inverse_triples)
    few = CoreTriplesFactory(triples[:8], **sizes)
    return EagerDataset(training=training, testing=few, validation=few)
