"""The discriminator of the two-way GAN, which tells whether a vector is an entity, and which pathway made it.

It has one trunk and two heads (from a secondary summary of the paper; the widths are those of the authors' published
code). In that code the loss of the second head was zero, because a softmax over a single class has nothing to tell;
here both heads end in a logit, and both are trained.
"""

from __future__ import annotations

from pykeen.typing import FloatTensor
from torch import nn

from .film import SLOPE

__all__ = [
    "TwoWayDiscriminator",
]


def _head(dim: int) -> nn.Sequential:
    # the published code has no activations within its heads, so that each of them is a linear map
    return nn.Sequential(
        nn.Linear(dim, 16), nn.LeakyReLU(SLOPE), nn.Linear(16, 8), nn.LeakyReLU(SLOPE), nn.Linear(8, 1)
    )


class TwoWayDiscriminator(nn.Module):
    """Tell real entity vectors from fakes, and fakes of one pathway from those of the other.

    :param dim: the dimension of the entity space
    """

    def __init__(self, *, dim: int) -> None:
        """Initialise the discriminator."""
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(dim, 50), nn.LeakyReLU(SLOPE), nn.Linear(50, 32))
        self.adversarial = _head(32)
        self.pathway = _head(32)

    def forward(self, vectors: FloatTensor) -> tuple[FloatTensor, FloatTensor]:
        """Judge vectors.

        :param vectors: shape: (n, dim) real or fake entity vectors

        :returns: two logits, each of shape: (n,), that the vector is real, and that the first pathway made it
        """
        hidden = self.trunk(vectors)
        return self.adversarial(hidden).squeeze(dim=-1), self.pathway(hidden).squeeze(dim=-1)
