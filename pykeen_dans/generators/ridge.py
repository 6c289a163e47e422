"""The closed-form part of the diffusion alone: what a trained network has to be better than.

The reverse process, its timesteps and its conditions are those of :class:`DiffusionGenerator`; the estimate of the
noise-free vector is that of the ridge regression, and nothing corrects it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from class_resolver import HintOrType

from ..graph.difficulty import Difficulty
from .base import generator_resolver
from .diffusion import DiffusionGenerator

__all__ = [
    "RidgeGenerator",
]


class RidgeGenerator(DiffusionGenerator):
    """Generate vectors by the reverse process of a conditional Gaussian, fitted in closed form.

    :param dim: the dimension of the spaces
    :param num_relations: the number of relations
    :param num_bands: the number of hardness bands
    :param bands: the timesteps of the hardness bands, easy (large) first, default: from a half to an eighth of all
    :param num_timesteps: the number of timesteps ``T``
    :param num_steps: the number of denoising steps from noise to the hardest band (DDIM), None for all steps of the
        ancestral chain (DDPM)
    :param beta_low: the variance of the first step's noise
    :param beta_global: the variance of the last step's noise, before it is modulated by difficulty
    :param mu: the strength of this modulation
    :param conditioned: whether to use the condition; without it, there is one Gaussian for all queries
    :param difficulty: the difficulty of entities, see :class:`DiffusionGenerator`
    :param difficulty_kwargs: its parameters
    :param num_types: the number of types of entities, default: by their number

    :raises ValueError: if an argument is invalid
    """

    #: The network begins as a correction by zero, and stays so
    trains_network = False

    def __init__(
        self,
        *,
        dim: int,
        num_relations: int,
        num_bands: int = 4,
        bands: Sequence[int] | None = None,
        num_timesteps: int = 50,
        num_steps: int | None = 4,
        beta_low: float = 1e-4,
        beta_global: float = 0.2,
        mu: float = 1.0,
        conditioned: bool = True,
        difficulty: HintOrType[Difficulty] = None,
        difficulty_kwargs: Mapping[str, Any] | None = None,
        num_types: int | None = None,
    ) -> None:
        """Initialise the generator."""
        super().__init__(
            dim=dim,
            num_relations=num_relations,
            num_bands=num_bands,
            bands=bands,
            num_timesteps=num_timesteps,
            num_steps=num_steps,
            beta_low=beta_low,
            beta_global=beta_global,
            mu=mu,
            conditioned=conditioned,
            difficulty=difficulty,
            difficulty_kwargs=difficulty_kwargs,
            num_types=num_types,
            # of the network that is never used
            hidden_dim=2,
            num_blocks=1,
        )


generator_resolver.register(RidgeGenerator)
