"""The space in which negatives are generated.

Diffusion adds noise of unit variance, so that the vectors it is given must have unit variance too: an embedding whose
rows have unit *norm* has a variance of ``1 / dim`` in each dimension, noise drowns it, and all hardness bands look
alike. An :class:`EntitySpace` standardises the vectors of a model, keeps the statistics to find the way back, and shows
complex vectors through their real view.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import Tensor

from ..utils.models import evaluating
from .combination import Combination, TranslationCombination, combination_by_name, combination_for

__all__ = [
    "EntitySpace",
    "NonFiniteSpaceError",
    "UnsupportedModelError",
    "live_space",
    "reference_space",
]

if TYPE_CHECKING:
    from pykeen.models import Model

logger = logging.getLogger(__name__)

#: Dimensions that vary less than this are constant, and are left as they are
_MINIMUM_DEVIATION = 1e-6


class UnsupportedModelError(ValueError):
    """The model has no entity vectors from which negatives could be generated."""


class NonFiniteSpaceError(ValueError):
    """The entity vectors hold NaN or infinite values."""


def real_view(x: Tensor) -> FloatTensor:
    """Flatten the vectors of a representation, complex ones into their real view.

    :param x: shape: (n, ...) real or complex

    :returns: shape: (n, dim) real, where the real and imaginary part of a complex number are neighbours
    """
    if torch.is_complex(x):
        x = torch.view_as_real(x)
    return x.reshape(x.shape[0], math.prod(x.shape[1:])).float()


@dataclasses.dataclass(frozen=True)
class EntitySpace:
    """Standardised entity vectors, and the queries' vectors in the same space.

    :param vectors: shape: (num_entities, dim) the standardised entity vectors
    :param mean: shape: (dim,) the mean of the raw vectors
    :param deviation: shape: (dim,) their standard deviation
    :param raw_entities: shape: (num_entities, ...) the raw vectors, detached from the model
    :param raw_relations: shape: (num_relations, ...) the raw relation vectors, or None where the combination needs none
    :param combination: how a kept entity and a relation are combined
    :param query_scale: shape: () the typical size of a combined vector, by which it is divided
    :param members: shape: (num_members,) the entities that have a place in this space, on the CPU, None for all of them
    """

    vectors: FloatTensor
    mean: FloatTensor
    deviation: FloatTensor
    raw_entities: Tensor
    raw_relations: Tensor | None
    combination: Combination
    query_scale: FloatTensor
    members: LongTensor | None = None

    @classmethod
    def create(
        cls,
        *,
        entities: Tensor,
        relations: Tensor | None,
        combination: Combination,
        members: LongTensor | None = None,
        standardised: bool = True,
    ) -> EntitySpace:
        """Standardise vectors.

        :param entities: shape: (num_entities, ...) entity vectors, real or complex
        :param relations: shape: (num_relations, ...) relation vectors
        :param combination: how a kept entity and a relation are combined
        :param members: shape: (num_members,) the entities whose vectors mean something, by which the statistics are
            taken and among which is decoded, default: all
        :param standardised: whether to standardise at all; vectors as they are show what becomes of a diffusion whose
            noise has another scale

        :returns: the space

        :raises NonFiniteSpaceError: if a value is NaN or infinite, or so large that standardising it gives such values
        """
        # nothing that is done in a space reaches the model
        entities = entities.detach()
        relations = None if relations is None else relations.detach()
        for name, vectors in (("entities", entities), ("relations", relations)):
            if vectors is not None and not (finite := torch.isfinite(real_view(vectors))).all():
                bad = int((~finite).any(dim=-1).sum())
                raise NonFiniteSpaceError(
                    f"{name}: {bad} of {finite.shape[0]} vectors are NaN or infinite; lower the learning rate or clip "
                    f"gradients."
                )
        flat = real_view(entities)
        if not standardised:
            return cls(
                vectors=flat,
                mean=torch.zeros_like(flat[0]),
                deviation=torch.ones_like(flat[0]),
                raw_entities=entities,
                raw_relations=relations,
                combination=combination,
                query_scale=torch.ones((), device=flat.device),
                members=None if members is None else members.cpu(),
            )
        known = flat if members is None else flat[members.to(flat.device)]
        mean = known.mean(dim=0)
        deviation = known.std(dim=0, unbiased=False)
        deviation = torch.where(deviation > _MINIMUM_DEVIATION, deviation, 1.0)
        scale = torch.ones((), device=flat.device)
        if relations is not None:
            # a few combinations tell the size of all of them
            step = max(1, flat.shape[0] // 1024)
            sample = entities[::step]
            index = torch.arange(sample.shape[0], device=flat.device) % relations.shape[0]
            combined = real_view(combination(sample, relations[index]))
            scale = combined.pow(2).mean().sqrt().clamp(min=_MINIMUM_DEVIATION)
        vectors = (flat - mean) / deviation
        # squares and products overflow long before the vectors themselves do
        if not all(bool(torch.isfinite(x).all()) for x in (mean, deviation, scale, vectors)):
            raise NonFiniteSpaceError(
                f"entities: the vectors are so large (up to {flat.abs().max().item():.1e}) that their spread "
                f"overflows; lower the learning rate or clip gradients."
            )
        return cls(
            vectors=vectors,
            mean=mean,
            deviation=deviation,
            raw_entities=entities,
            raw_relations=relations,
            combination=combination,
            query_scale=scale,
            members=None if members is None else members.cpu(),
        )

    @property
    def dim(self) -> int:
        """The number of (real) dimensions."""
        return self.vectors.shape[1]

    @property
    def num_entities(self) -> int:
        """The number of entities."""
        return self.vectors.shape[0]

    @property
    def combines(self) -> bool:
        """Whether it is known how the model combines entity and relation."""
        return self.raw_relations is not None

    @property
    def num_members(self) -> int:
        """The number of entities that have a place in this space."""
        return self.num_entities if self.members is None else self.members.shape[0]

    @property
    def device(self) -> torch.device:
        """The device of the vectors."""
        return self.vectors.device

    def to(self, device: str) -> EntitySpace:
        """Move all vectors.

        :param device: the device

        :returns: the same space there
        """
        # the members stay: ids are drawn on the CPU
        return dataclasses.replace(
            self,
            vectors=self.vectors.to(device),
            mean=self.mean.to(device),
            deviation=self.deviation.to(device),
            raw_entities=self.raw_entities.to(device),
            raw_relations=None if self.raw_relations is None else self.raw_relations.to(device),
            query_scale=self.query_scale.to(device),
        )

    def state_dict(self) -> dict[str, Any]:
        """Tell what the space is made from."""
        return {
            "entities": self.raw_entities,
            "relations": self.raw_relations,
            "combination": type(self.combination).__name__,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], *, device: torch.device) -> EntitySpace:
        """Make the same space again.

        :param state: what :meth:`state_dict` told of a space of all entities
        :param device: the device of the vectors

        :returns: the space
        """
        relations = state["relations"]
        return cls.create(
            entities=state["entities"].to(device),
            relations=None if relations is None else relations.to(device),
            combination=combination_by_name(state["combination"]),
        )

    def draw(self, size: int, random: torch.Generator) -> LongTensor:
        """Draw entities that have a place in this space, without replacement.

        :param size: the number wanted. All of them, in order, where there are no more.
        :param random: the source of randomness, on the CPU

        :returns: shape: (min(size, num_members),) entity ids on the CPU
        """
        if size >= self.num_members:
            return torch.arange(self.num_entities) if self.members is None else self.members
        position = torch.randperm(self.num_members, generator=random)[:size]
        return position if self.members is None else self.members[position]

    def queries(self, kept: LongTensor, relations: LongTensor, sides: LongTensor) -> FloatTensor:
        """Combine kept entities with relations.

        :param kept: shape: (n,) the kept entities
        :param relations: shape: (n,) the relations
        :param sides: shape: (n,) the side to be filled

        :returns: shape: (n, dim) the combined vectors, of unit size; those of the kept entity alone where the model's
            way to combine is not known
        """
        if self.raw_relations is None:
            return self.vectors[kept]
        combined = self.combination.by_side(self.raw_entities[kept], self.raw_relations[relations], sides)
        return real_view(combined) / self.query_scale

    def restore(self, latent: FloatTensor) -> Tensor:
        """Map vectors back into the model's own space.

        :param latent: shape: (..., dim) standardised vectors

        :returns: shape: (..., *shape) raw vectors, complex where the model's are
        """
        raw = latent * self.deviation + self.mean
        shape = self.raw_entities.shape[1:]
        if torch.is_complex(self.raw_entities):
            raw = torch.view_as_complex(raw.reshape(*latent.shape[:-1], *shape, 2).contiguous())
        return raw.reshape(*latent.shape[:-1], *shape).to(self.raw_entities.dtype)


def reference_space(*, entities: FloatTensor, relations: FloatTensor) -> EntitySpace:
    """Make the space of the reference embedding, in which queries are translations.

    :param entities: shape: (num_entities, dim)
    :param relations: shape: (num_relations, dim)

    :returns: the space
    """
    return EntitySpace.create(entities=entities, relations=relations, combination=TranslationCombination())


def live_space(model: Model) -> EntitySpace:
    """Make the space of a model under training, from detached copies of its current vectors.

    :param model: the model. Encoders work, since representations are called rather than read: for RGCN, the vectors are
        the enriched ones.

    :returns: the space. Of several entity representations the first is used.

    :raises UnsupportedModelError: if the model has no entity representations
    """
    # imported late, since this module is imported while PyKEEN may be half imported
    from pykeen.models import ERModel

    if not isinstance(model, ERModel):
        raise UnsupportedModelError(
            f"model={type(model).__name__} has no entity representations (it is no pykeen.models.ERModel)."
        )
    with evaluating(model):
        entities = model.entity_representations[0](indices=None).detach().clone()
        combination = combination_for(model.interaction)
        relations = None
        if combination is not None and len(model.relation_representations):
            relations = model.relation_representations[0](indices=None).detach().clone()
            if relations.shape[1:] != entities.shape[1:]:
                relations = None
    return EntitySpace.create(
        entities=entities,
        relations=relations,
        combination=combination or TranslationCombination(),
    )
