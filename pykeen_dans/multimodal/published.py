r"""The diffusion of DHNS as its authors published it, kept so that what becomes of it can be seen and tested.

Their code (``ngl567/DHNS``, commit ``02d8de0``) differs from :mod:`pykeen_dans.generators.diffusion_process` in that

- the network is not preconditioned: $x_t$, the timestep's embedding and the condition are concatenated, go through
  LayerNorm, a linear layer to $4d$, ReLU, LayerNorm and two linear layers, and come out as the noise;
- the condition is the combined vector of kept entity and relation alone, with no trace of modality or side;
- the chain starts from standard normal noise, although 50 steps of $\beta = 10^{-4}..0.02$, which were made for 1000
  steps, leave 60 % of the signal at the end;
- a step adds noise of variance $\beta_t$, nothing is clipped, and states are taken as they are.

At the published learning rate and width, the network falls into predicting no noise at all within a few epochs. Its
mean absolute error ends at $\sqrt{2 / \pi} = 0.798$, that of a predictor of zeros, and what it "generates" is noise
that depends on neither query nor modality.

Two of the published code's defects are left out: its head chain is not a chain, but one more step from the tail's
state, and gradients of the generator's loss reach the model under training.
"""

from __future__ import annotations

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import nn

from ..generators.denoiser import Condition, DenoisingNetwork, timestep_embedding
from ..generators.diffusion_process import DiffusionChain, EncodedCondition
from ..utils.validation import validate_at_least

__all__ = [
    "ConcatenatedDenoiser",
    "PublishedChain",
]


class ConcatenatedDenoiser(DenoisingNetwork):
    """The published network, with about 19 parameters for each square of its width.

    :param dim: the dimension of the entity space
    :param num_timesteps: the number of timesteps
    :param hidden_dim: the width, default: the dimension of the entity space
    """

    conditioned = True
    #: shape: (num_timesteps + 1, hidden_dim) the embeddings of all timesteps
    timesteps: FloatTensor

    def __init__(self, *, dim: int, num_timesteps: int, hidden_dim: int | None = None) -> None:
        """Initialise the network as PyTorch does by default."""
        super().__init__()
        hidden_dim = dim if hidden_dim is None else validate_at_least("hidden_dim", hidden_dim, 2)
        # sines and cosines come in pairs
        time_dim = hidden_dim + hidden_dim % 2
        self.register_buffer("timesteps", timestep_embedding(num_timesteps, time_dim))
        self.time = nn.Sequential(nn.Linear(time_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, hidden_dim))
        self.body = nn.Sequential(
            nn.LayerNorm(2 * dim + hidden_dim),
            nn.Linear(2 * dim + hidden_dim, 4 * hidden_dim),
            nn.ReLU(),
            nn.LayerNorm(4 * hidden_dim),
            nn.Linear(4 * hidden_dim, dim),
            nn.Linear(dim, dim),
        )

    def encode(self, condition: Condition) -> tuple[FloatTensor, FloatTensor]:
        """Take the combined vector as it is; there is nothing to encode, so that the second tensor is empty."""
        return condition.query, condition.query[:, :0]

    def forward(self, x: FloatTensor, timesteps: LongTensor, encoded: tuple[FloatTensor, FloatTensor]) -> FloatTensor:
        """Predict noise, see :meth:`DenoisingNetwork.forward`."""
        query, _ = encoded
        time = self.time(self.timesteps[timesteps]).expand(len(x), -1)
        prediction: FloatTensor = self.body(torch.cat([x, time, query], dim=-1))
        return prediction


class PublishedChain(DiffusionChain):
    """The published diffusion process, always with all steps of the ancestral chain."""

    def predict_noise(
        self, x: FloatTensor, timesteps: LongTensor, abar: FloatTensor, condition: EncodedCondition
    ) -> FloatTensor:
        """Predict the noise by the network alone, see :meth:`DiffusionChain.predict_noise`."""
        prediction: FloatTensor = self.denoiser(x, timesteps, (condition.film, condition.encoded))
        return prediction

    def _errors(
        self,
        x_t: FloatTensor,
        x0: FloatTensor,
        noise: FloatTensor,
        timesteps: LongTensor,
        abar: FloatTensor,
        condition: EncodedCondition,
    ) -> tuple[FloatTensor, FloatTensor]:
        error = self.predict_noise(x_t, timesteps, abar, condition) - noise
        return error, error

    def _kept(self, x: FloatTensor, abar: FloatTensor) -> FloatTensor:
        return x

    def _step(
        self,
        x: FloatTensor,
        current: int,
        following: int,
        abars: FloatTensor,
        encoded: EncodedCondition,
        random: torch.Generator,
    ) -> FloatTensor:
        abar, following_abar = abars[:, current, None], abars[:, following, None]
        predicted = self.predict_noise(x, torch.tensor(current, device=x.device), abar, encoded)
        alpha = abar / following_abar
        beta = 1 - alpha
        mean = (x - beta / (1 - abar).sqrt() * predicted) / alpha.sqrt()
        if following == 0:
            return mean
        return mean + beta.sqrt() * torch.randn(x.shape, generator=random).to(x.device)
