r"""The generator networks of the two-way GAN, and how they are modulated feature by feature (FiLM).

Each pathway of the paper is an MLP with two hidden layers whose activations are scaled and shifted by the input that it
is conditioned on, $a' = \alpha \odot a + \beta$, so that one network acts differently on each entity, or on each entity
with its relation. This much is said by a secondary summary of the paper; widths, slopes and the order of the layers are
those of the authors' published code. There, the networks that predict $\alpha$ and $\beta$ were left out of the
optimiser, and so stayed as they were made. Here they are trained like everything else.
"""

from __future__ import annotations

import torch
from pykeen.typing import FloatTensor
from torch import nn
from torch.nn import functional

__all__ = [
    "FeatureModulation",
    "PathwayNetwork",
    "SafeBatchNorm",
]

#: The slope of LeakyReLU for negative values, in all networks
SLOPE = 0.2
#: The number of hidden layers of a pathway
_NUM_LAYERS = 2
#: The width of the modulating networks
_FILM_DIM = 100
#: How far an output may be from the mean at first, in standard deviations; hardly an entity lies further out
_OUTPUT_SCALE = 3.0


class FeatureModulation(nn.Module):
    r"""Scale and shift activations, by two bias-free networks that read the condition.

    What is predicted is $\alpha - 1$ and $\beta$, by layers that begin with zeros. So the modulation is the identity at
    first, and becomes whatever the training makes of it (our choice; the published code has no such start).

    :param dim: the dimension of condition and activations
    :param hidden_dim: the width of the two networks
    """

    def __init__(self, *, dim: int, hidden_dim: int) -> None:
        """Initialise the modulation as the identity."""
        super().__init__()
        self.scale = self._predictor(dim, hidden_dim)
        self.shift = self._predictor(dim, hidden_dim)

    @staticmethod
    def _predictor(dim: int, hidden_dim: int) -> nn.Sequential:
        # no activation at the end, unlike in the published code, so that values of either sign come at the same price
        last = nn.Linear(hidden_dim, dim, bias=False)
        nn.init.zeros_(last.weight)
        return nn.Sequential(nn.Linear(dim, hidden_dim, bias=False), nn.LeakyReLU(SLOPE), last)

    def forward(self, activations: FloatTensor, condition: FloatTensor) -> tuple[FloatTensor, FloatTensor]:
        """Modulate.

        :param activations: shape: (n, dim)
        :param condition: shape: (n, dim)

        :returns: shape: (n, dim) the modulated activations, and shape: () how far the modulation is from the identity,
            the mean square of both parts. (The published code takes a norm over the batch, which grows with its size.)
        """
        scale, shift = self.scale(condition), self.shift(condition)
        return (1.0 + scale) * activations + shift, (scale.pow(2).mean() + shift.pow(2).mean()) / 2


class SafeBatchNorm(nn.BatchNorm1d):
    """Batch normalisation that takes the running statistics for a batch of one, which has no variance of its own.

    Its options are PyTorch's defaults. (The published code passes .8 where the smallest variance is expected.)
    """

    def forward(self, input: FloatTensor) -> FloatTensor:
        """Normalise.

        :param input: shape: (n, dim)

        :returns: shape: (n, dim)
        """
        if self.training and input.shape[0] < 2:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


class PathwayNetwork(nn.Module):
    """One of the two pathways: from a noisy prior and its condition to a fake entity vector.

    The output passes through a hyperbolic tangent, as in the published code, and is then scaled dimension by dimension,
    since vectors of entities are not bounded by 1 (our choice). The scale is trained.

    :param dim: the dimension of the entity space, and of all layers
    :param residual: whether the network's output is added to the prior, rather than taken by itself as in the paper.
        Its last layer then begins with zeros, so that the fakes are the priors at first (our choice).
    :param film: whether to modulate the hidden layers; without it, this is the paper's ablation of FiLM
    """

    def __init__(self, *, dim: int, residual: bool, film: bool = True) -> None:
        """Initialise the network."""
        super().__init__()
        self.residual = residual
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(_NUM_LAYERS))
        self.norms = nn.ModuleList(SafeBatchNorm(dim) for _ in range(_NUM_LAYERS))
        self.output = nn.Linear(dim, dim)
        if residual:
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(self.output.bias)
        self.output_scale = nn.Parameter(torch.full((dim,), _OUTPUT_SCALE))
        # last, so that a network without modulation begins with the same weights as one with it
        self.films = nn.ModuleList(
            FeatureModulation(dim=dim, hidden_dim=_FILM_DIM) for _ in range(_NUM_LAYERS if film else 0)
        )

    def forward(self, prior: FloatTensor, condition: FloatTensor) -> tuple[FloatTensor, FloatTensor]:
        """Make fake entity vectors.

        :param prior: shape: (n, dim) the noisy priors
        :param condition: shape: (n, dim) the same without noise

        :returns: shape: (n, dim) the fakes, and shape: () how far the modulation is from the identity
        """
        hidden = prior
        penalty = prior.new_zeros(())
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            hidden = functional.leaky_relu(layer(hidden), SLOPE)
            if len(self.films):
                hidden, distance = self.films[number](hidden, condition)
                penalty = penalty + distance / _NUM_LAYERS
            hidden = functional.leaky_relu(norm(hidden), SLOPE)
        output = self.output_scale * torch.tanh(self.output(hidden))
        return (prior + output if self.residual else output), penalty
