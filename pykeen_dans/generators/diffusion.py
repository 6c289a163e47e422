r"""Conditional diffusion over entity vectors, the generator of DANS-KGC.

DANS-KGC takes its negatives at several timesteps of the reverse process, which are its bands of hardness (from a
secondary summary of the paper). The squared error of the predicted noise is what the paper calls $L_{Diff}$. The
process itself is in :mod:`pykeen_dans.generators.diffusion_process`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from class_resolver import HintOrType, OptionalKwargs
from pykeen.typing import FloatTensor

from ..space.entity_space import EntitySpace
from ..utils.validation import validate_positive
from .base import Budget, FitReport, Generator, World
from .denoiser import Denoiser
from .diffusion_process import DiffusionChain
from .schedule import NoiseSchedule

__all__ = [
    "DiffusionGenerator",
]


class DiffusionGenerator(DiffusionChain, Generator):
    """Generate vectors by conditional diffusion.

    :param dim: the dimension of the spaces
    :param num_relations: the number of relations
    :param bands: the timesteps of the hardness bands, easy (large) first
    :param num_timesteps: the number of timesteps $T$
    :param num_steps: the number of denoising steps from noise to the hardest band; ignored by ``sampling="ddpm"``
    :param schedule: the noise schedule
    :param schedule_kwargs: its parameters
    :param sampling: ``"ddim"`` for strided deterministic steps, ``"ddpm"`` for all steps of the ancestral chain
    :param loss: ``"l2"`` or ``"l1"`` distance between noise and predicted noise
    :param hidden_dim: the width of the denoiser
    :param num_blocks: the number of its residual blocks
    :param condition_dropout: the probability with which the condition is left out in training
    :param conditioned: whether to use the condition; without it, this is the ablation "w/o CCD"
    :param learning_rate: the learning rate of Adam
    :param batch_size: the number of positives in a training step
    :param trained: whether to train at all; an untrained denoiser is the noise control of the benchmarks
    """

    def __init__(
        self,
        *,
        dim: int,
        num_relations: int,
        bands: Sequence[int] = (25, 18, 12, 6),
        num_timesteps: int = 50,
        num_steps: int = 4,
        schedule: HintOrType[NoiseSchedule] = None,
        schedule_kwargs: OptionalKwargs = None,
        sampling: Literal["ddim", "ddpm"] = "ddim",
        loss: Literal["l2", "l1"] = "l2",
        hidden_dim: int = 128,
        num_blocks: int = 2,
        condition_dropout: float = 0.1,
        conditioned: bool = True,
        learning_rate: float = 2e-3,
        batch_size: int = 512,
        trained: bool = True,
    ) -> None:
        """Initialise the generator."""
        super().__init__(
            dim=dim,
            denoiser=Denoiser(
                dim=dim,
                num_relations=num_relations,
                num_timesteps=num_timesteps,
                hidden_dim=hidden_dim,
                num_blocks=num_blocks,
                condition_dropout=condition_dropout,
                conditioned=conditioned,
            ),
            bands=bands,
            num_timesteps=num_timesteps,
            num_steps=num_steps,
            schedule=schedule,
            schedule_kwargs=schedule_kwargs,
            sampling=sampling,
            loss=loss,
            batch_size=batch_size,
        )
        self.trained = trained
        self.optimizer = torch.optim.Adam(
            self.denoiser.parameters(), lr=validate_positive("learning_rate", learning_rate)
        )

    def fit(self, *, space: EntitySpace, world: World, budget: Budget, random: torch.Generator) -> FitReport:
        """Train the denoiser on positives, see :meth:`Generator.fit`."""
        losses: list[FloatTensor] = []
        if not self.trained:
            return FitReport(steps=0, seconds=0.0, metrics={})
        centroids = world.types.centroids(space.vectors)
        self.fit_prior(space=space, world=world, centroids=centroids, random=random)
        self.train()
        while budget.allow(1):
            computed = self.training_loss(space=space, world=world, centroids=centroids, random=random)
            # all entities have a place in the only space
            assert computed is not None
            loss, noise_error = computed
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            losses.append(noise_error)
            budget.spend(1)
        self.eval()
        metrics = {"diffusion_loss": torch.stack(losses).mean().item()} if losses else {}
        return FitReport(steps=len(losses), seconds=budget.elapsed, metrics=metrics)
