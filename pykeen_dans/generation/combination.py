"""How a kept entity and a relation are combined into one vector of the entity space.

For a factorisation model the plausibility of an entity is a comparison with such a vector: DistMult's score is the
inner product of the tail with ``head * relation``, RotatE's the distance of the tail from the rotated head. A generator
that is given this vector need not learn the model's geometry first. Each combination knows both directions, from the
head to the tail and back. Models whose way to combine is none of these are conditioned on the kept entity and a learned
vector of the relation instead (see :mod:`pykeen_dans.generation.denoiser`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from class_resolver import ClassResolver
from pykeen.typing import LongTensor
from torch import Tensor

if TYPE_CHECKING:
    from pykeen.nn.modules import Interaction

__all__ = [
    "Combination",
    "ComplexProductCombination",
    "ProductCombination",
    "RotationCombination",
    "TranslationCombination",
    "combination_for",
    "combination_resolver",
]

_TAIL_SIDE = 1


class Combination(ABC):
    """A way to combine an entity with a relation."""

    @abstractmethod
    def __call__(self, entity: Tensor, relation: Tensor) -> Tensor:
        """Combine heads with relations, pointing at the tails.

        :param entity: shape: (n, d) the heads
        :param relation: shape: (n, d) the relations

        :returns: shape: (n, d)
        """

    @abstractmethod
    def inverse(self, entity: Tensor, relation: Tensor) -> Tensor:
        """Combine tails with relations, pointing at the heads.

        :param entity: shape: (n, d) the tails
        :param relation: shape: (n, d) the relations

        :returns: shape: (n, d)
        """

    def by_side(self, entity: Tensor, relation: Tensor, sides: LongTensor) -> Tensor:
        """Combine kept entities with relations.

        :param entity: shape: (n, ...) the kept entities
        :param relation: shape: (n, ...) the relations
        :param sides: shape: (n,) the side to be filled

        :returns: shape: (n, ...)
        """
        is_tail = (sides == _TAIL_SIDE).view(-1, *(1 for _ in entity.shape[1:]))
        return torch.where(is_tail, self(entity, relation), self.inverse(entity, relation))


class TranslationCombination(Combination):
    """The head moved by the relation, as in TransE."""

    def __call__(self, entity: Tensor, relation: Tensor) -> Tensor:  # noqa: D102
        return entity + relation

    def inverse(self, entity: Tensor, relation: Tensor) -> Tensor:  # noqa: D102
        return entity - relation


class ProductCombination(Combination):
    """The element-wise product, as in DistMult."""

    def __call__(self, entity: Tensor, relation: Tensor) -> Tensor:  # noqa: D102
        return entity * relation

    def inverse(self, entity: Tensor, relation: Tensor) -> Tensor:  # noqa: D102
        return entity * relation


class ComplexProductCombination(Combination):
    """The complex product, as in ComplEx; back with the conjugate relation."""

    def __call__(self, entity: Tensor, relation: Tensor) -> Tensor:  # noqa: D102
        return entity * relation

    def inverse(self, entity: Tensor, relation: Tensor) -> Tensor:  # noqa: D102
        return entity * relation.conj()


class RotationCombination(ComplexProductCombination):
    """The head rotated by the relation, as in RotatE; back against the rotation."""


#: A resolver for combinations
combination_resolver: ClassResolver[Combination] = ClassResolver.from_subclasses(
    base=Combination,  # type: ignore[type-abstract]
    default=TranslationCombination,
)


def combination_for(interaction: Interaction[Any, Any, Any]) -> Combination | None:
    """Look up how an interaction combines entity and relation.

    :param interaction: the interaction of a model

    :returns: the combination, or None where it is none of the known ones
    """
    # imported late, since this module is imported while PyKEEN may be half imported
    from pykeen.nn.modules import ComplExInteraction, DistMultInteraction, RotatEInteraction, TransEInteraction

    match interaction:
        case TransEInteraction():
            return TranslationCombination()
        case DistMultInteraction():
            return ProductCombination()
        case ComplExInteraction():
            return ComplexProductCombination()
        case RotatEInteraction():
            return RotationCombination()
    return None
