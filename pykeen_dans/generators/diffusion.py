r"""Conditional diffusion over entity vectors, the generator of DANS-KGC.

DANS-KGC takes its negatives at several timesteps of the reverse process, which are its bands of hardness (from a
secondary summary of the paper). The squared error of the predicted noise is what the paper calls $L_{Diff}$. The
process itself is in :mod:`pykeen_dans.generators.diffusion_process`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from class_resolver import HintOrType
from pykeen.typing import FloatTensor
from torch import nn

from ..graph import Graph, QueryBatch
from ..graph.difficulty import Difficulty, difficulty_resolver
from ..space.entity_space import EntitySpace
from ..utils.budget import Budget
from ..utils.validation import (
    validate_at_least,
    validate_bands,
    validate_choice,
    validate_flag,
    validate_keywords,
    validate_positive,
    validate_share,
)
from .base import FitReport, Generator, generator_resolver
from .denoiser import Denoiser, DenoisingNetwork
from .diffusion_process import DiffusionLosses, DiffusionProcess, Surroundings
from .schedule import NoiseSchedule

__all__ = [
    "DiffusionGenerator",
]

#: The largest norm of a gradient of the denoiser, and the number of steps in which the learning rate rises
_MAX_NORM, _WARM_UP = 1.0, 20


def default_bands(num_timesteps: int, num_bands: int) -> tuple[int, ...]:
    """Choose the timesteps of bands (our choice; the paper does not say which).

    They are from a half to an eighth of 50 timesteps, or of fewer. Of more, they are those at which as much of the
    signal is left: its logarithm falls with the square of the timestep, divided by their number.

    :param num_timesteps: the number of timesteps
    :param num_bands: the number of bands

    :returns: the timesteps, easy first; fewer than wanted where there are not so many
    """
    scale = min(num_timesteps, math.sqrt(50 * num_timesteps))
    wanted = np.linspace(scale / 2, scale / 8, num_bands)
    return tuple(sorted({max(1, round(timestep)) for timestep in wanted}, reverse=True))


class DiffusionGenerator(Generator):
    """Generate vectors by conditional diffusion.

    :param dim: the dimension of the spaces
    :param num_relations: the number of relations
    :param num_bands: the number of hardness bands
    :param bands: the timesteps of the hardness bands, easy (large) first, default: see :func:`default_bands`
    :param num_timesteps: the number of timesteps ``T``
    :param num_steps: the number of denoising steps from noise to the hardest band (DDIM), None for all steps of the
        ancestral chain (DDPM)
    :param beta_low: the variance of the first step's noise
    :param beta_global: the variance of the last step's noise, before it is modulated by difficulty
    :param mu: the strength of this modulation
    :param noise_loss: ``"l2"`` or ``"l1"`` distance between noise and predicted noise
    :param hidden_dim: the width of the denoiser
    :param num_blocks: the number of its residual blocks
    :param condition_dropout: the probability with which the condition is left out in training
    :param conditioned: whether to use the condition; without it, this is the ablation "w/o CCD"
    :param learning_rate: the learning rate of Adam
    :param batch_size: the number of positives in a training step
    :param difficulty: the difficulty of entities, ``"learned"``, ``"degree"``, or ``"constant"`` for the ablation
        "w/o DAM"
    :param difficulty_kwargs: its parameters
    :param num_types: the number of types of entities, default: by their number
    :param trained: whether to train at all; without, neither network nor regression ever see a positive. (The generator
        ``ridge`` is the control with the regression, and without the network.)

    :raises ValueError: if an argument is invalid
    """

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
        noise_loss: str = "l2",
        hidden_dim: int = 128,
        num_blocks: int = 2,
        condition_dropout: float = 0.1,
        conditioned: bool = True,
        learning_rate: float = 2e-3,
        batch_size: int = 512,
        difficulty: HintOrType[Difficulty] = None,
        difficulty_kwargs: Mapping[str, Any] | None = None,
        num_types: int | None = None,
        trained: bool = True,
    ) -> None:
        """Initialise the generator."""
        super().__init__(dim=dim, num_relations=num_relations, num_bands=num_bands)
        if num_steps is not None:
            num_steps = validate_at_least("num_steps", num_steps, 1)
        validate_choice("noise_loss", noise_loss, ("l2", "l1"))
        self.learning_rate = validate_positive("learning_rate", learning_rate)
        self.batch_size = validate_at_least("batch_size", batch_size, 1)
        self.num_types = None if num_types is None else validate_at_least("num_types", num_types, 1)
        self.difficulty, self.difficulty_kwargs = difficulty, difficulty_kwargs
        validate_keywords("difficulty", difficulty_resolver, difficulty, difficulty_kwargs)
        self.trained = validate_flag("trained", trained)
        self.network_options: dict[str, Any] = {
            "hidden_dim": validate_at_least("hidden_dim", hidden_dim, 2),
            "num_blocks": validate_at_least("num_blocks", num_blocks, 1),
            "condition_dropout": validate_share("condition_dropout", condition_dropout),
            "conditioned": validate_flag("conditioned", conditioned),
        }
        self.schedule = NoiseSchedule(num_timesteps=num_timesteps, beta_low=beta_low, beta_global=beta_global, mu=mu)
        self.process_options: dict[str, Any] = {"num_steps": num_steps, "noise_loss": noise_loss}
        num_timesteps = self.schedule.num_timesteps
        self.bands = (
            default_bands(num_timesteps, num_bands) if bands is None else validate_bands("bands", bands, num_timesteps)
        )
        if len(self.bands) != num_bands:
            raise ValueError(
                f"bands={self.bands} are not {num_bands}, the number of targets; give one timestep for each target, or "
                f"raise num_timesteps={num_timesteps}."
            )
        self.processes = nn.ModuleList(self.make_processes())
        self.optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        # a function with a name, since results with the sampler in them are pickled
        self.warm_up = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.warmth)

    #: The number of steps in which the learning rate rises, and the largest norm of a gradient
    warm_up_steps: int = _WARM_UP
    max_norm: float = _MAX_NORM

    def warmth(self, step: int) -> float:
        """Tell the factor of the learning rate, which rises at first.

        :param step: the number of steps before

        :returns: the factor, at most 1
        """
        return min(1.0, (step + 1) / self.warm_up_steps)

    def make_denoiser(self, num_modalities: int = 1) -> DenoisingNetwork:
        """Make a network.

        :param num_modalities: the number of sources that share it

        :returns: the network
        """
        return Denoiser(
            dim=self.dim,
            num_relations=self.num_relations,
            num_timesteps=self.schedule.num_timesteps,
            num_modalities=num_modalities,
            **self.network_options,
        )

    def make_processes(self) -> list[DiffusionProcess]:
        """Make the diffusion process of each source."""
        return [
            DiffusionProcess(
                dim=self.dim,
                denoiser=self.make_denoiser(),
                schedule=self.schedule,
                bands=self.bands,
                **self.process_options,
            )
        ]

    def process(self, source: int) -> DiffusionProcess:
        """Get the process of a source."""
        process = self.processes[source]
        assert isinstance(process, DiffusionProcess)
        return process

    def surroundings(self, space: EntitySpace, graph: Graph) -> Surroundings:
        """Gather what is known of entities beside their vectors.

        :param space: the current entity vectors
        :param graph: what is known of the graph

        :returns: types, their centroids in this space, and difficulty
        """
        types = graph.types(self.num_types)
        return Surroundings(
            types=types.labels,
            centroids=types.centroids(space.vectors),
            difficulty=graph.difficulty(self.difficulty, self.difficulty_kwargs),
        )

    def prepare(self, graph: Graph) -> None:
        """Make types and difficulty, see :meth:`Generator.prepare`."""
        graph.types(self.num_types)
        graph.difficulty(self.difficulty, self.difficulty_kwargs)

    def fit(self, *, space: EntitySpace, graph: Graph, budget: Budget, random: torch.Generator) -> FitReport:
        """Train the denoiser on positives of all sources, by the sum of their losses, see :meth:`Generator.fit`.

        The metrics ``noise_error`` and ``ridge_error`` are the errors of the predicted noise with and without the
        network. Those of a predictor of zeros are 1 by the distance ``"l2"``, and 0.798 by ``"l1"``.
        """
        if not self.trained:
            return FitReport()
        spaces = self.spaces(space)
        surroundings = [self.surroundings(own, graph) for own in spaces]
        for source, own in enumerate(spaces):
            self.process(source).fit_gaussian(space=own, graph=graph, surroundings=surroundings[source], random=random)
        history: list[list[DiffusionLosses | None]] = []
        self.train()
        while budget.allow(1) and self.trains_network:
            history.append([])
            for source, own in enumerate(spaces):
                process = self.process(source)
                condition, x0 = process.positives(self.batch_size, own, graph, surroundings[source], random)
                # where no positive has a place in a space, there is nothing to learn from it
                history[-1].append(process.losses(condition, x0, random) if len(x0) else None)
            self._update([losses.loss for losses in history[-1] if losses is not None])
            budget.spend(1)
        self.eval()
        return FitReport(steps=len(history), seconds=budget.elapsed, metrics=self._metrics(history))

    #: Whether there are steps of the optimiser at all
    trains_network: bool = True

    def _update(self, losses: Sequence[FloatTensor]) -> None:
        """Take one step of the optimiser."""
        if not losses:
            return
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses)).sum().backward()
        nn.utils.clip_grad_norm_(self.parameters(), self.max_norm)
        self.optimizer.step()
        self.warm_up.step()

    def _metrics(self, history: Sequence[Sequence[DiffusionLosses | None]]) -> dict[str, float]:
        """Take the means of errors over the steps, for each source."""
        metrics = {}
        for source, name in enumerate(self.sources):
            found = [losses for step in history if (losses := step[source]) is not None]
            suffix = f"_{name}" if len(self.sources) > 1 else ""
            for kind in ("noise", "ridge"):
                if found:
                    values = torch.stack([getattr(losses, kind) for losses in found])
                    metrics[f"{kind}_error{suffix}"] = values.mean().item()
        return metrics

    @torch.no_grad()
    def generate(
        self, *, space: EntitySpace, graph: Graph, queries: QueryBatch, random: torch.Generator
    ) -> FloatTensor:
        """Run the reverse process of each source on its own, see :meth:`Generator.generate`."""
        self.eval()
        answers = graph.index.sample_answer(queries.rows, random)
        vectors = [
            self.process(source).generate(
                space=own,
                queries=queries,
                answers=answers,
                surroundings=self.surroundings(own, graph),
                random=random,
            )
            for source, own in enumerate(self.spaces(space))
        ]
        return torch.stack(vectors, dim=2)

    def adjust_hardness(self, band: int, source: int, *, harder: bool) -> bool:
        """Move the timestep of a band by one, within the room that its neighbours leave."""
        return self.process(source).adjust_hardness(band, harder=harder)


generator_resolver.register(DiffusionGenerator)
