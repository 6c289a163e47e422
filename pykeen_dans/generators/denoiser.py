"""The condition-constrained denoiser of DANS-KGC.

The paper's denoiser is an MLP conditioned on the type of the replaced entity and on the neighbourhood, the kept entity
with the relation (from a secondary summary of the paper, which gives no layout). The layout is our choice: residual
blocks with feature-wise linear modulation (FiLM) by timestep and condition. The condition of a query stays the same
over all steps of a chain, so it is encoded once for all of them; a step then costs no more than a small MLP.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import nn
from torch.nn import functional

__all__ = [
    "Condition",
    "ConditionEncoder",
    "Denoiser",
    "DenoisingNetwork",
]


@dataclasses.dataclass(frozen=True)
class Condition:
    """What a denoiser is told about the vectors it restores.

    :param query: shape: (n, dim) the combined vector of kept entity and relation
    :param kept: shape: (n, dim) the vector of the kept entity
    :param type: shape: (n, dim) the centroid of the type that is to be generated
    :param relation: shape: (n,) the relation
    :param side: shape: (n,) the side that is to be filled, 0 for the head and 1 for the tail
    :param difficulty: shape: (n,) the difficulty of the entity that is restored, in (0, 1)
    :param modality: in which of the denoiser's modalities all of these vectors are
    """

    query: FloatTensor
    kept: FloatTensor
    type: FloatTensor
    relation: LongTensor
    side: LongTensor
    difficulty: FloatTensor
    modality: int = 0

    @property
    def features(self) -> FloatTensor:
        """All but the relation in one tensor, shape: (n, 3 * dim + 1)."""
        return torch.cat([self.query, self.kept, self.type, 2.0 * self.difficulty[:, None] - 1.0], dim=-1)


def timestep_embedding(num_timesteps: int, dim: int) -> FloatTensor:
    """Make the sinusoidal embedding of all timesteps (Vaswani et al., 2017).

    :param num_timesteps: the number of timesteps
    :param dim: the dimension, even

    :returns: shape: (num_timesteps + 1, dim)
    """
    frequency = torch.exp(torch.arange(dim // 2) * (-math.log(10_000.0) / max(dim // 2 - 1, 1)))
    angle = torch.arange(num_timesteps + 1)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class ConditionEncoder(nn.Module):
    """Encode conditions, with dropout of whole conditions.

    :param dim: the dimension of the entity space
    :param num_relations: the number of relations
    :param hidden_dim: the dimension of the encoding
    :param dropout: the probability with which a condition is replaced by zeros in training, so that the same network is
        able to denoise without it
    :param num_modalities: the number of modalities that share the encoder. Each has a vector for itself, and one for
        each relation, since a relation that says much of an entity's structure may say little of its looks.
    """

    def __init__(
        self, *, dim: int, num_relations: int, hidden_dim: int, dropout: float, num_modalities: int = 1
    ) -> None:
        """Initialise the encoder."""
        super().__init__()
        self.dropout = dropout
        self.num_relations = num_relations
        self.project = nn.Linear(3 * dim + 1, hidden_dim)
        self.relation = nn.Embedding(2 * num_relations * num_modalities, hidden_dim)
        nn.init.normal_(self.relation.weight, std=0.1)
        self.modality = nn.Embedding(num_modalities, hidden_dim) if num_modalities > 1 else None

    def forward(self, condition: Condition) -> FloatTensor:
        """Encode.

        :param condition: the condition of n vectors

        :returns: shape: (n, hidden_dim)
        """
        relation = (2 * condition.modality + condition.side) * self.num_relations + condition.relation
        hidden = self.project(condition.features) + self.relation(relation)
        if self.modality is not None:
            hidden = hidden + self.modality.weight[condition.modality]
        encoded = functional.silu(hidden)
        if self.training and self.dropout > 0:
            keep = torch.rand(encoded.shape[0], 1, device=encoded.device) >= self.dropout
            encoded = encoded * keep
        return encoded


class DenoisingNetwork(nn.Module, ABC):
    """A network that tells signal from noise, given a condition."""

    #: Whether the condition is used at all
    conditioned: bool

    @abstractmethod
    def encode(self, condition: Condition) -> tuple[FloatTensor, FloatTensor]:
        """Encode the condition once for all steps of a chain.

        :param condition: the condition of n vectors

        :returns: two tensors of n rows each, which :meth:`forward` takes
        """

    @abstractmethod
    def forward(self, x: FloatTensor, timesteps: LongTensor, encoded: tuple[FloatTensor, FloatTensor]) -> FloatTensor:
        """Predict.

        :param x: shape: (n, dim) noisy vectors
        :param timesteps: shape: (n,) or () their timesteps
        :param encoded: the encoded condition, from :meth:`encode`

        :returns: shape: (n, dim) what is predicted
        """


class Denoiser(DenoisingNetwork):
    """Correct the estimate of a noise-free vector, in units of its standard deviation.

    :param dim: the dimension of the entity space
    :param num_relations: the number of relations
    :param num_timesteps: the number of timesteps
    :param hidden_dim: the width
    :param num_blocks: the number of residual blocks
    :param condition_dropout: see :class:`ConditionEncoder`
    :param conditioned: whether to use the condition at all. Without it, this is the paper's ablation "w/o CCD".
    :param num_modalities: the number of modalities that share the network, see :class:`ConditionEncoder`
    """

    #: shape: (num_timesteps + 1, hidden_dim) the embeddings of all timesteps
    timesteps: FloatTensor

    def __init__(
        self,
        *,
        dim: int,
        num_relations: int,
        num_timesteps: int,
        hidden_dim: int = 128,
        num_blocks: int = 2,
        condition_dropout: float = 0.1,
        conditioned: bool = True,
        num_modalities: int = 1,
    ) -> None:
        """Initialise the denoiser, so that it corrects nothing at first."""
        super().__init__()
        self.num_blocks = num_blocks
        self.hidden_dim = hidden_dim
        if hidden_dim % 2:
            raise ValueError(f"hidden_dim={hidden_dim} is odd; choose an even number, e.g. {hidden_dim + 1}.")
        self.conditioned = conditioned
        self.encoder = ConditionEncoder(
            dim=dim,
            num_relations=num_relations,
            hidden_dim=hidden_dim,
            dropout=condition_dropout,
            num_modalities=num_modalities,
        )
        self.register_buffer("timesteps", timestep_embedding(num_timesteps, hidden_dim))
        self.time = nn.Sequential(nn.Linear(hidden_dim, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, hidden_dim))
        self.input = nn.Linear(dim, hidden_dim)
        # scale and shift of all blocks at once; linear, so that the parts of timestep and condition add up
        self.film_time = nn.Linear(hidden_dim, 2 * hidden_dim * num_blocks)
        self.film_condition = nn.Linear(hidden_dim, 2 * hidden_dim * num_blocks, bias=False)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in range(num_blocks))
        self.blocks = nn.ModuleList(nn.Linear(hidden_dim, hidden_dim) for _ in range(num_blocks))
        self.output = nn.Linear(hidden_dim, dim)
        self.skip = nn.Linear(hidden_dim, dim)
        for module in (self.film_time, self.film_condition, self.output, self.skip):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)

    def encode(self, condition: Condition) -> tuple[FloatTensor, FloatTensor]:
        """Encode the condition once for all steps of a chain.

        :param condition: the condition of n vectors

        :returns: the modulation, shape: (n, 2 * hidden_dim * num_blocks), and the encoding, shape: (n, hidden_dim)
        """
        encoded = self.encoder(condition)
        if not self.conditioned:
            encoded = torch.zeros_like(encoded)
        return self.film_condition(encoded), encoded

    def forward(
        self,
        x: FloatTensor,
        timesteps: LongTensor,
        encoded: tuple[FloatTensor, FloatTensor],
    ) -> FloatTensor:
        """Predict a correction.

        :param x: shape: (n, dim) noisy vectors
        :param timesteps: shape: (n,) or () their timesteps
        :param encoded: the encoded condition, from :meth:`encode`

        :returns: shape: (n, dim) the correction
        """
        film_condition, condition = encoded
        time = self.film_time(functional.silu(self.time(self.timesteps[timesteps])))
        modulation = (time + film_condition).view(-1, self.num_blocks, 2, self.hidden_dim)
        hidden = self.input(x)
        for index, (norm, block) in enumerate(zip(self.norms, self.blocks, strict=True)):
            scale, shift = modulation[:, index].unbind(dim=1)
            hidden = hidden + block(functional.silu(norm(hidden) * (1.0 + scale) + shift))
        return self.output(hidden) + self.skip(condition)
