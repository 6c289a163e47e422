"""The discriminator of the two-way GAN, which tells whether a vector is an entity, and which pathway made it.

It has one trunk and two heads (from a secondary summary of the paper; the widths are those of the authors' published
code). In that code the loss of the second head was zero, because a softmax over a single class has nothing to tell;
here both heads end in a logit, and both are trained.
"""

from __future__ import annotations

import dataclasses

import torch
from pykeen.typing import FloatTensor
from torch import nn

from .film import SLOPE

__all__ = [
    "Context",
    "TwoWayDiscriminator",
]


@dataclasses.dataclass(frozen=True)
class Context:
    """The query to which a vector is meant to be an answer.

    :param kept: shape: (n, dim) the vector of the kept entity
    :param query: shape: (n, dim) the combined vector of kept entity and relation
    """

    kept: FloatTensor
    query: FloatTensor


def _head(dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(dim, 16), nn.LeakyReLU(SLOPE), nn.Linear(16, 8), nn.LeakyReLU(SLOPE), nn.Linear(8, 1)
    )


class TwoWayDiscriminator(nn.Module):
    """Tell real entity vectors from fakes, and fakes of one pathway from those of the other.

    :param dim: the dimension of the entity space
    :param conditional: whether to show it the query, too, so that it may judge whether the vector fits (our choice; the
        paper's sees the vector alone). It is given the element-wise product of vector and query beside them, by which
        bilinear models compare the two.
    """

    def __init__(self, *, dim: int, conditional: bool = False) -> None:
        """Initialise the discriminator."""
        super().__init__()
        self.conditional = conditional
        width = 4 * dim if conditional else dim
        self.trunk = nn.Sequential(nn.Linear(width, 50), nn.LeakyReLU(SLOPE), nn.Linear(50, 32))
        # the published code has no activations within its heads, so that each of them is a linear map
        self.adversarial = _head(32)
        self.pathway = _head(32)

    def features(self, vectors: FloatTensor, context: Context) -> FloatTensor:
        """Gather what is judged.

        :param vectors: shape: (n, dim) real or fake entity vectors
        :param context: what they answer

        :returns: shape: (n, num_features) the vectors, and what they answer if the discriminator is to see it
        """
        if not self.conditional:
            return vectors
        return torch.cat([vectors, context.kept, context.query, vectors * context.query], dim=-1)

    def forward(self, features: FloatTensor) -> tuple[FloatTensor, FloatTensor]:
        """Judge vectors.

        :param features: shape: (n, num_features) see :meth:`features`

        :returns: two logits, each of shape: (n,), that the vector is real, and that the first pathway made it
        """
        hidden = self.trunk(features)
        return self.adversarial(hidden).squeeze(dim=-1), self.pathway(hidden).squeeze(dim=-1)
