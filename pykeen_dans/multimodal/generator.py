r"""Diffusion over several modalities, the generator of DHNS (Niu & Zhang, 2025).

There are two hierarchies. Within a modality, the timesteps of the reverse process are levels of *hardness*, as in
:mod:`pykeen_dans.generators.diffusion_process`; the modalities are *semantic* levels (see
:mod:`pykeen_dans.multimodal.levels`). Each pair of both is a band of the bank. Bands are ordered by timestep first,
easy to hard, then by semantic level: ``band = timestep * num_levels + level``.

As in the paper, one conditional network serves all modalities by default, and its loss is the sum over them. Ours is
told which modality it restores, and which side; the published one is told neither. A preset tells all that differs
between what works and what was published.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from class_resolver import HintOrType, OptionalKwargs
from pykeen.typing import FloatTensor
from torch import nn

from ..generators.base import Budget, FitReport, Generator, World
from ..generators.denoiser import Denoiser, DenoisingNetwork
from ..generators.diffusion_process import DiffusionChain
from ..generators.schedule import NoiseSchedule
from ..graph import QueryBatch
from ..space.entity_space import EntitySpace
from ..utils.validation import validate_at_least, validate_choice, validate_positive
from .levels import SemanticLevel
from .published import ConcatenatedDenoiser, PublishedChain

__all__ = [
    "HierarchicalGenerator",
    "PRESETS",
    "Preset",
]


@dataclasses.dataclass(frozen=True)
class Preset:
    """What differs between a generator that works and the published one.

    :param published: whether network and chain are those of :mod:`pykeen_dans.multimodal.published`
    :param standardised: whether the spaces are standardised
    :param bands: the timesteps of the hardness levels, easy (large) first
    :param sampling: see :class:`pykeen_dans.generators.diffusion_process.DiffusionChain`
    :param loss: see :class:`pykeen_dans.generators.diffusion_process.DiffusionChain`
    :param hidden_dim: the width of the network, None for the dimension of the space
    :param schedule_kwargs: the parameters of the noise schedule. In DHNS all entities get the same noise, so that
        ``mu`` is 0.
    :param learning_rate: the learning rate of Adam
    :param warm_up: the number of steps in which the learning rate rises to this
    :param max_norm: the largest norm of a gradient, None for no limit
    """

    published: bool
    standardised: bool
    bands: tuple[int, ...]
    sampling: Literal["ddim", "ddpm"]
    loss: Literal["l2", "l1"]
    hidden_dim: int | None
    schedule_kwargs: Mapping[str, Any]
    learning_rate: float
    warm_up: int
    max_norm: float | None


#: The presets, by name. The values of ``released`` are those of the published code; its fifth level, the restored
#: vector itself, has the weight 0 there, and is left out.
PRESETS: Mapping[str, Preset] = {
    "working": Preset(
        published=False,
        standardised=True,
        bands=(25, 18, 12, 6),
        sampling="ddim",
        loss="l2",
        hidden_dim=128,
        schedule_kwargs={"mu": 0.0, "beta_global": 0.2},
        learning_rate=2e-3,
        warm_up=20,
        max_norm=1.0,
    ),
    "released": Preset(
        published=True,
        standardised=False,
        bands=(25, 12, 6, 5),
        sampling="ddpm",
        loss="l1",
        hidden_dim=None,
        schedule_kwargs={"mu": 0.0, "beta_low": 1e-4, "beta_global": 0.02},
        learning_rate=2e-3,
        warm_up=0,
        max_norm=None,
    ),
}


class HierarchicalGenerator(Generator):
    """Generate vectors by conditional diffusion in the spaces of several modalities.

    :param dim: the dimension of the spaces
    :param num_relations: the number of relations
    :param levels: the semantic levels, easy first; without any, there is the structural level alone
    :param preset: the name of a preset, see :data:`PRESETS`, for all arguments below that are None
    :param shared: whether one network serves all modalities, else each has one of its own
    :param bands: the timesteps of the hardness levels, easy (large) first
    :param num_timesteps: the number of timesteps $T$
    :param num_steps: the number of denoising steps from noise to the hardest level; ignored by ``sampling="ddpm"``
    :param schedule: the noise schedule
    :param schedule_kwargs: its parameters, which are added to those of the preset
    :param sampling: ``"ddim"`` for strided deterministic steps, ``"ddpm"`` for all steps of the ancestral chain
    :param loss: ``"l2"`` or ``"l1"`` distance between noise and predicted noise. The paper has the former, its code
        the latter.
    :param hidden_dim: the width of the network
    :param num_blocks: the number of its residual blocks
    :param condition_dropout: the probability with which the condition is left out in training
    :param learning_rate: the learning rate of Adam
    :param warm_up: the number of steps in which the learning rate rises to this
    :param max_norm: the largest norm of a gradient, 0 for no limit
    :param standardised: whether to standardise the spaces
    :param batch_size: the number of positives in a training step, for each modality
    :param trained: whether to train at all; an untrained network is the noise control of the benchmarks

    :raises ValueError: if an argument is invalid
    """

    def __init__(
        self,
        *,
        dim: int,
        num_relations: int,
        levels: Sequence[SemanticLevel] = (),
        preset: str = "working",
        shared: bool = True,
        bands: Sequence[int] | None = None,
        num_timesteps: int = 50,
        num_steps: int = 4,
        schedule: HintOrType[NoiseSchedule] = None,
        schedule_kwargs: OptionalKwargs = None,
        sampling: Literal["ddim", "ddpm"] | None = None,
        loss: Literal["l2", "l1"] | None = None,
        hidden_dim: int | None = None,
        num_blocks: int = 2,
        condition_dropout: float = 0.1,
        learning_rate: float | None = None,
        warm_up: int | None = None,
        max_norm: float | None = None,
        standardised: bool | None = None,
        batch_size: int = 512,
        trained: bool = True,
    ) -> None:
        """Initialise the generator."""
        super().__init__()
        chosen = PRESETS[validate_choice("preset", preset, PRESETS)]
        self.levels = tuple(levels) or (SemanticLevel("structural"),)
        self.trained = trained
        self.standardised = chosen.standardised if standardised is None else standardised
        width = chosen.hidden_dim if hidden_dim is None else hidden_dim

        def make_denoiser(num_modalities: int) -> DenoisingNetwork:
            if chosen.published:
                return ConcatenatedDenoiser(dim=dim, num_timesteps=num_timesteps, hidden_dim=width)
            return Denoiser(
                dim=dim,
                num_relations=num_relations,
                num_timesteps=num_timesteps,
                hidden_dim=dim if width is None else width,
                num_blocks=num_blocks,
                condition_dropout=condition_dropout,
                num_modalities=num_modalities,
            )

        num_levels = len(self.levels)
        denoisers = (
            [make_denoiser(num_levels)] * num_levels if shared else [make_denoiser(1) for _ in range(num_levels)]
        )
        chain_cls = PublishedChain if chosen.published else DiffusionChain
        #: the process of each semantic level
        self.chains = nn.ModuleList(
            chain_cls(
                dim=dim,
                denoiser=denoiser,
                modality=modality if shared else 0,
                bands=chosen.bands if bands is None else bands,
                num_timesteps=num_timesteps,
                num_steps=num_steps,
                schedule=schedule,
                schedule_kwargs={**chosen.schedule_kwargs, **(schedule_kwargs or {})},
                sampling=chosen.sampling if sampling is None else sampling,
                loss=chosen.loss if loss is None else loss,
                batch_size=batch_size,
            )
            for modality, denoiser in enumerate(denoisers)
        )
        self.num_bands = self._chain(0).num_bands * num_levels
        learning_rate = chosen.learning_rate if learning_rate is None else learning_rate
        self.optimizer = torch.optim.Adam(self.parameters(), lr=validate_positive("learning_rate", learning_rate))
        warm_up = validate_at_least("warm_up", chosen.warm_up if warm_up is None else warm_up, 0)
        self.warm_up = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / max(1, warm_up))
        )
        if max_norm is None:
            max_norm = chosen.max_norm
        self.max_norm = validate_positive("max_norm", max_norm) if max_norm else None
        self._spaces: tuple[EntitySpace, Sequence[EntitySpace]] | None = None

    def _chain(self, level: int) -> DiffusionChain:
        chain = self.chains[level]
        assert isinstance(chain, DiffusionChain)
        return chain

    def level_spaces(self, space: EntitySpace) -> Sequence[EntitySpace]:
        """Make the space of each semantic level, once for each structural space.

        :param space: the current structural space

        :returns: a space for each level
        """
        if self._spaces is None or self._spaces[0] is not space:
            self._spaces = (space, [level.space(space, standardised=self.standardised) for level in self.levels])
        return self._spaces[1]

    def spaces(self, space: EntitySpace) -> Sequence[EntitySpace]:
        """Tell the space of each band, see :meth:`Generator.spaces`."""
        return list(self.level_spaces(space)) * self._chain(0).num_bands

    def fit(self, *, space: EntitySpace, world: World, budget: Budget, random: torch.Generator) -> FitReport:
        """Train all modalities at once, by the sum of their losses, see :meth:`Generator.fit`.

        The metrics ``diffusion_loss_<level>`` are the errors of the predicted noise. A predictor of zeros has an error
        of 0.798 by the distance ``"l1"``, and of 1 by ``"l2"``.
        """
        if not self.trained:
            return FitReport(steps=0, seconds=0.0, metrics={})
        spaces = self.level_spaces(space)
        centroids = [world.types.centroids(own.vectors) for own in spaces]
        for index, own in enumerate(spaces):
            self._chain(index).fit_prior(space=own, world=world, centroids=centroids[index], random=random)
        errors: dict[str, list[float]] = {level.name: [] for level in self.levels}
        steps = 0
        self.train()
        while budget.allow(1):
            losses = []
            for index, (level, own) in enumerate(zip(self.levels, spaces, strict=True)):
                computed = self._chain(index).training_loss(
                    space=own, world=world, centroids=centroids[index], random=random
                )
                if computed is not None:
                    losses.append(computed[0])
                    errors[level.name].append(computed[1].item())
            if losses:
                self._update(torch.stack(losses).sum())
            steps += 1
            budget.spend(1)
        self.eval()
        metrics = {f"diffusion_loss_{name}": sum(values) / len(values) for name, values in errors.items() if values}
        return FitReport(steps=steps, seconds=budget.elapsed, metrics=metrics)

    def _update(self, loss: FloatTensor) -> None:
        """Take one step of the optimiser."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.max_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters(), self.max_norm)
        self.optimizer.step()
        self.warm_up.step()

    def generate(
        self,
        *,
        space: EntitySpace,
        world: World,
        queries: QueryBatch,
        random: torch.Generator,
    ) -> FloatTensor:
        """Run the reverse process of each modality on its own, see :meth:`Generator.generate`."""
        latent = [
            self._chain(level).generate(space=own, world=world, queries=queries, random=random)
            for level, own in enumerate(self.level_spaces(space))
        ]
        return torch.stack(latent, dim=2).flatten(1, 2)

    def adjust_hardness(self, band: int, harder: bool) -> bool:
        """Move the timestep of a band by one, within the room that its neighbours of the same modality leave."""
        timestep, level = divmod(band, len(self.levels))
        return self._chain(level).adjust_hardness(timestep, harder)
