r"""What a query tells of its answer by linear regression, refitted in closed form.

Between two epochs there is time for a few gradient steps, while the model under training moves all of its vectors. So
whatever can be known without gradient steps is not left to them: given its condition $c$, an entity vector is taken to
be $x_0 \sim N(W c, s^2)$, with $W$ from a ridge regression over some thousand positives and $s^2$ from its residuals.
The best estimate of $x_0$ from a noisy $x_t$ then has a closed form, which a network only has to correct. This is our
choice; before the first fit it is the estimate for standard normal vectors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pykeen.typing import FloatTensor
from torch import nn

__all__ = [
    "ConditionalGaussian",
]

#: The weight of the ridge, relative to the number of samples
_RIDGE = 0.01
#: Variances do not fall below this, so that a perfectly predictable dimension still gets some noise
_MINIMUM_VARIANCE = 0.05
#: The regression is done anew where its squared error has grown by this factor since it was fitted
_WORSE = 1.05


class ConditionalGaussian(nn.Module):
    """The conditional distribution of entity vectors, as a linear function of the condition with Gaussian residuals.

    :param num_features: the number of features of a condition
    :param dim: the dimension of the entity space
    """

    weight: FloatTensor
    variance: FloatTensor

    def __init__(self, *, num_features: int, dim: int) -> None:
        """Initialise with standard normal vectors, whatever the condition."""
        super().__init__()
        self.register_buffer("weight", torch.zeros(num_features, dim))
        self.register_buffer("variance", torch.ones(dim))
        #: the squared error when it was last fitted; 0 before, so that any fit pays
        self.error = 0.0

    def get_extra_state(self) -> dict[str, float]:
        """Tell the error, which ``state_dict`` holds beside weight and variance."""
        return {"error": self.error}

    def set_extra_state(self, state: Mapping[str, float]) -> None:
        """Take over the error.

        :param state: what :meth:`get_extra_state` told
        """
        self.error = state["error"]

    def fit(
        self, features: FloatTensor, target: FloatTensor, *, held_out: tuple[FloatTensor, FloatTensor] | None = None
    ) -> None:
        """Fit weight and variance by ridge regression.

        :param features: shape: (n, num_features)
        :param target: shape: (n, dim)
        :param held_out: features and targets by which the error is told. Default: the same, on which it is smaller
        """
        num_samples = features.shape[0]
        gram = features.T @ features
        gram.diagonal().add_(_RIDGE * num_samples)
        self.weight.copy_(torch.linalg.solve(gram, features.T @ target))
        residual = (target - features @ self.weight).pow(2).mean(dim=0)
        self.variance.copy_(residual.clamp(_MINIMUM_VARIANCE, 1.0))
        self.error = self.squared_error(*(held_out or (features, target)))

    def squared_error(self, features: FloatTensor, target: FloatTensor) -> float:
        """Measure the mean squared error of the predicted vectors.

        :param features: shape: (n, num_features)
        :param target: shape: (n, dim)

        :returns: the error
        """
        return (target - self.mean(features)).pow(2).mean().item()

    def is_outdated(self, features: FloatTensor, target: FloatTensor) -> bool:
        """Tell whether a new fit would pay, since vectors have moved.

        :param features: shape: (n, num_features) the conditions of some positives
        :param target: shape: (n, dim) their vectors

        :returns: whether the error on them is clearly larger than that of the last fit
        """
        return self.squared_error(features, target) > _WORSE * self.error

    def mean(self, features: FloatTensor) -> FloatTensor:
        """Predict the vectors.

        :param features: shape: (n, num_features)

        :returns: shape: (n, dim)
        """
        return features @ self.weight

    def estimate(self, x_t: FloatTensor, mean: FloatTensor, abar: FloatTensor) -> tuple[FloatTensor, FloatTensor]:
        r"""Estimate the noise-free vectors, the posterior mean of $x_0$ given $x_t$.

        :param x_t: shape: (n, dim) noisy vectors
        :param mean: shape: (n, dim) the conditional mean
        :param abar: shape: (n, 1) the share of signal

        :returns: the estimate and its standard deviation, both of shape: (n, dim)
        """
        total = abar * self.variance + 1 - abar
        estimate = mean + abar.sqrt() * self.variance / total * (x_t - abar.sqrt() * mean)
        return estimate, ((1 - abar) * self.variance / total).sqrt()
