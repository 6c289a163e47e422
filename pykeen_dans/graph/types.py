"""Types of entities: K-means clusters of the reference embedding.

The paper conditions the denoiser on "the type, a K-means cluster" (from a secondary summary). The clusters are made
once, in the space of the pre-trained reference embedding; their centroids are then taken in whatever space negatives
are generated in, so that a type stays the same type while the model under training moves its vectors.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from pykeen.typing import FloatTensor, LongTensor

__all__ = [
    "EntityTypes",
    "default_num_types",
]

#: From this number of entities on, K-means is run on mini-batches
_MINI_BATCH_FROM = 20_000


def default_num_types(num_entities: int) -> int:
    """Choose the number of types, ``sqrt(num_entities / 2)`` between 8 and 256 (our choice; the paper's is unknown).

    :param num_entities: the number of entities

    :returns: the number of types, at most the number of entities
    """
    return min(num_entities, max(8, min(256, round(math.sqrt(num_entities / 2)))))


@dataclasses.dataclass(frozen=True)
class EntityTypes:
    """The type of each entity.

    :param labels: shape: (num_entities,) the type of each entity
    :param num_types: the number of types
    """

    labels: LongTensor
    num_types: int

    @classmethod
    def cluster(cls, vectors: FloatTensor, *, num_types: int | None = None, seed: int = 0) -> EntityTypes:
        """Cluster entities by their vectors.

        :param vectors: shape: (num_entities, dim) the vectors of the reference embedding
        :param num_types: the number of types, default: :func:`default_num_types`
        :param seed: the seed of K-means

        :returns: the types
        """
        # imported late, since it alone would double the time it takes to import the plugin
        from sklearn.cluster import KMeans, MiniBatchKMeans

        num_entities = vectors.shape[0]
        num_types = min(num_types or default_num_types(num_entities), num_entities)
        algorithm = MiniBatchKMeans if num_entities > _MINI_BATCH_FROM else KMeans
        model = algorithm(n_clusters=num_types, n_init=3, random_state=seed)
        labels = torch.as_tensor(model.fit_predict(vectors.float().cpu().numpy()), dtype=torch.long)
        return cls(labels=labels, num_types=num_types)

    def centroids(self, vectors: FloatTensor) -> FloatTensor:
        """Take the centroids in some space.

        :param vectors: shape: (num_entities, dim) the vectors of all entities

        :returns: shape: (num_types, dim), zeros for a type without entities
        """
        labels = self.labels.to(vectors.device)
        total = vectors.new_zeros(self.num_types, vectors.shape[1]).index_add_(0, labels, vectors)
        count = torch.bincount(labels, minlength=self.num_types).clamp(min=1)
        return total / count[:, None]
