r"""The diffusion of DHNS as its authors published it, kept so that what becomes of it can be seen and tested.

Their code (``ngl567/DHNS``, commit ``02d8de0``) differs from :mod:`pykeen_dans.generators.diffusion_process` in that

- the network is not preconditioned: $x_t$, the timestep's embedding and the condition are concatenated, go through
  LayerNorm, a linear layer to $4d$, ReLU, LayerNorm and two linear layers, and come out as the noise;
- the condition is the combined vector of kept entity and relation alone, with no trace of modality or side;
- the chain starts from standard normal noise, although 50 steps of $\beta = 10^{-4}..0.02$, which were made for 1000
  steps, leave 60 % of the signal at the end;
- a step adds noise of variance $\beta_t$, nothing is clipped, and states are taken as they are.

At the published learning rate and a width of 1,024, the network falls into predicting no noise at all within a few
epochs; small ones do learn. Its mean absolute error then ends at $\sqrt{2 / \pi} = 0.798$, that of a predictor of
zeros, and what it "generates" is noise that depends on neither query nor modality.

Two of the published code's defects are left out: its head chain is not a chain, but one more step from the tail's
state, and gradients of the generator's loss reach the model under training.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import nn

from ..generators import generator_resolver
from ..generators.denoiser import Condition, DenoisingNetwork, timestep_embedding
from ..generators.diffusion_process import DiffusionLosses, DiffusionProcess, EncodedCondition
from .generator import HierarchicalGenerator

__all__ = [
    "ConcatenatedDenoiser",
    "PublishedHierarchicalGenerator",
    "PublishedProcess",
]


#: The timesteps of the published code
_BANDS = (25, 12, 6, 5)


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
        hidden_dim = dim if hidden_dim is None else hidden_dim
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
        """Predict the noise, see :meth:`DenoisingNetwork.forward`."""
        query, _ = encoded
        time = self.time(self.timesteps[timesteps]).expand(len(x), -1)
        prediction: FloatTensor = self.body(torch.cat([x, time, query], dim=-1))
        return prediction


class PublishedProcess(DiffusionProcess):
    """The published diffusion process, always with all steps of the ancestral chain."""

    def predict_noise(
        self, x: FloatTensor, timesteps: LongTensor, abar: FloatTensor, condition: EncodedCondition
    ) -> FloatTensor:
        """Predict the noise by the network alone, see :meth:`DiffusionProcess.predict_noise`."""
        prediction: FloatTensor = self.denoiser(x, timesteps, condition.network)
        return prediction

    def _losses(
        self,
        x_t: FloatTensor,
        x0: FloatTensor,
        noise: FloatTensor,
        timesteps: LongTensor,
        abar: FloatTensor,
        condition: EncodedCondition,
    ) -> DiffusionLosses:
        loss = self.distance(self.predict_noise(x_t, timesteps, abar, condition) - noise)
        estimate, _ = self.gaussian.estimate(x_t, condition.mean, abar)
        ridge = (estimate - x0) * (abar / (1 - abar)).sqrt()
        return DiffusionLosses(loss=loss, noise=loss.detach(), ridge=self.distance(ridge))

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


class PublishedHierarchicalGenerator(HierarchicalGenerator):
    """The published configuration, by its name ``"published-hierarchical"``.

    Its fifth band, the restored vector itself, has the weight 0 in the published code, and is left out.

    :param dim: the dimension of the spaces
    :param num_relations: the number of relations
    :param num_bands: the number of hardness bands, of which the published code has four
    :param kwargs: as for :class:`HierarchicalGenerator`, the values of the published code by default
    """

    standardised: ClassVar[bool] = False
    process_cls: ClassVar[type[DiffusionProcess]] = PublishedProcess
    warm_up_steps = 1
    max_norm = float("inf")

    def __init__(self, *, dim: int, num_relations: int, num_bands: int = 4, **kwargs: Any) -> None:
        """Initialise the generator."""
        published = {
            "bands": _BANDS[:num_bands],
            "num_steps": None,
            "noise_loss": "l1",
            "beta_global": 0.02,
            "hidden_dim": max(2, dim),
        }
        super().__init__(dim=dim, num_relations=num_relations, num_bands=num_bands, **{**published, **kwargs})

    def make_denoiser(self, num_modalities: int = 1) -> DenoisingNetwork:
        """Make the published network."""
        return ConcatenatedDenoiser(
            dim=self.dim,
            num_timesteps=self.schedule.num_timesteps,
            hidden_dim=int(self.network_options["hidden_dim"]),
        )


generator_resolver.register(PublishedHierarchicalGenerator)
