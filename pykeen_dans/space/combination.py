"""How a kept entity and a relation are combined into one vector of the entity space.

For a factorisation model the plausibility of an entity is a comparison with such a vector: DistMult's score is the
inner product of the tail with ``head * relation``, RotatE's the distance of the tail from the rotated head. A generator
that is given this vector need not learn the model's geometry first. Each combination knows both directions, from the
head to the tail and back. For models whose way to combine is none of these, it has to be learned
(:class:`LearnedCombination`), or generators are conditioned on the kept entity and a learned vector of the relation
instead (see :mod:`pykeen_dans.generators.denoiser`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import Tensor, nn

if TYPE_CHECKING:
    from pykeen.nn.modules import Interaction

__all__ = [
    "Combination",
    "ComplexProductCombination",
    "LearnedCombination",
    "ProductCombination",
    "RotationCombination",
    "TranslationCombination",
    "combination_by_name",
    "combination_for",
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


class LearnedCombination(nn.Module):
    """A way to combine that is learned, for models whose own way is not known: scale and shift each dimension.

    Products and translations are special cases of it. It is the identity at first. (The general case is our choice; the
    papers know the scoring function.)

    :param num_relations: the number of relations
    :param dim: the dimension of the entity space
    """

    def __init__(self, *, num_relations: int, dim: int) -> None:
        """Initialise the combination."""
        super().__init__()
        self.num_relations = num_relations
        # one of each for each side that may be filled
        self.scale = nn.Embedding(2 * num_relations, dim)
        self.shift = nn.Embedding(2 * num_relations, dim)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, kept: FloatTensor, relations: LongTensor, sides: LongTensor) -> FloatTensor:
        """Combine kept entities with relations.

        :param kept: shape: (n, dim) the vectors of the kept entities
        :param relations: shape: (n,) the relations
        :param sides: shape: (n,) the side to be filled

        :returns: shape: (n, dim)
        """
        index = sides * self.num_relations + relations
        return self.scale(index) * kept + self.shift(index)


#: The ways that are known, by the names of their classes
_BY_NAME: Mapping[str, type[Combination]] = {
    cls.__name__: cls
    for cls in (TranslationCombination, ProductCombination, ComplexProductCombination, RotationCombination)
}


def combination_by_name(name: str) -> Combination:
    """Look up a way to combine by the name of its class.

    :param name: the name

    :returns: the combination

    :raises ValueError: if there is none of this name
    """
    if name not in _BY_NAME:
        raise ValueError(f"the combination {name!r} is unknown; there are {', '.join(_BY_NAME)}")
    return _BY_NAME[name]()


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
