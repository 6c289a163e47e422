r"""Semantic levels: the spaces of the modalities, beside that of the triples.

In DHNS, negatives differ in *what* makes them plausible: an entity may look like the true one (visual level), be
described like it (textual level), or be linked like it (structural level). The paper learns a linear layer for each
modality, which maps its features into the space of the structural vectors, by the loss of the model under training.

A negative sampler has no part in that loss, so the linear map is found in closed form here, which is our choice: ridge
regression of the structural vectors on the features. It is refitted whenever the structural vectors have moved. So a
modality's vectors have the dimension and the geometry of the model's own, by which the model's way to combine an entity
with a relation applies to them, and its interaction can score them. What is alike in a modality stays so: on MKG-W with
text features, 52 % of an entity's 20 nearest neighbours by text are among the 20 nearest in the space that is regressed
on a trained embedding of 64 dimensions (a principal component analysis to 64 dimensions keeps 74 %), where by chance it
would be 0.1 %.
"""

from __future__ import annotations

import functools

import torch
from pykeen.typing import BoolTensor, FloatTensor

from ..space import EntitySpace, real_view
from ..utils.storage import content_key

__all__ = [
    "FeatureProjection",
    "SemanticLevel",
]

#: The weight of the ridge, relative to the number of covered entities and to the mean variance of a feature
_RIDGE = 0.1


class FeatureProjection:
    """A linear map from the features of a modality to structural vectors, by ridge regression over covered entities.

    :param features: shape: (num_entities, num_features) the features
    :param covered: shape: (num_entities,) which entities have features
    """

    def __init__(self, *, features: FloatTensor, covered: BoolTensor) -> None:
        """Initialise the projection; nothing is computed before it is used."""
        self.features = features.detach().cpu().float()
        #: shape: (num_covered,) the ids of the entities that have features
        self.members = covered.cpu().nonzero(as_tuple=True)[0]

    @functools.cached_property
    def _factors(self) -> tuple[FloatTensor, FloatTensor]:
        """Centre the features, and factorise their second moments; both stay while the structural vectors move."""
        centred = self.features[self.members] - self.features[self.members].mean(dim=0)
        gram = centred.T @ centred
        # features of which none varies have nothing to tell: the ridge keeps their map at zero
        gram.diagonal().add_(_RIDGE * gram.diagonal().mean().clamp(min=1e-6))
        return centred, torch.linalg.cholesky(gram)

    def __call__(self, target: FloatTensor) -> FloatTensor:
        """Predict structural vectors from features.

        :param target: shape: (num_entities, dim) the structural vectors

        :returns: shape: (num_covered, dim) the predictions, for :attr:`members`
        """
        members = target[self.members.to(target.device)].cpu().float()
        mean = members.mean(dim=0)
        centred, cholesky = self._factors
        return (centred @ torch.cholesky_solve(centred.T @ (members - mean), cholesky) + mean).to(target.device)


class SemanticLevel:
    """A modality, or the structural vectors themselves.

    :param name: the name of the modality
    :param projection: from its features to structural vectors, None for the structural level
    """

    def __init__(self, name: str, projection: FeatureProjection | None = None) -> None:
        """Initialise the level."""
        self.name = name
        self.projection = projection

    def __repr__(self) -> str:
        """Tell name and content, by which samplers without a callback are told apart."""
        content = None if self.projection is None else content_key(features=self.projection.features)
        return f"{type(self).__name__}({self.name!r}, {content})"

    def space(self, structural: EntitySpace, *, standardised: bool = True) -> EntitySpace:
        """Make the space of this level.

        An entity that the modality does not cover has no place in it, so it is never decoded, and no network learns to
        restore it. As the kept entity of a query it still needs a vector: this is its structural one, in the units of
        the modality (our choice).

        :param structural: the current structural space
        :param standardised: see :meth:`EntitySpace.create`

        :returns: a space of the same dimension
        """
        vectors, members = structural.raw_entities, None
        if self.projection is None:
            if standardised:
                return structural
        else:
            members, predicted = self.projection.members, self.projection(real_view(vectors))
            # from the units of the structural space into those of what features can predict
            filled = structural.vectors * predicted.std(dim=0, unbiased=False) + predicted.mean(dim=0)
            filled[members.to(filled.device)] = predicted
            if vectors.is_complex():
                filled = torch.view_as_complex(filled.reshape(*vectors.shape, 2))
            vectors = filled.reshape(vectors.shape).to(vectors.dtype)
        return EntitySpace.create(
            entities=vectors,
            relations=structural.raw_relations,
            combination=structural.combination,
            members=members,
            standardised=standardised,
        )
