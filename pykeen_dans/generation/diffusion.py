r"""Conditional diffusion over entity vectors, with hardness bands along the reverse process.

DANS-KGC takes its negatives at several timesteps of the reverse process: early, noisy ones are easy, late ones hard
(from a secondary summary of the paper). With $\bar\alpha_t$ the share of signal at timestep $t$, a vector is noised to
$x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon$ and the denoiser is trained to predict $\epsilon$ (Ho
et al., 2020; the paper calls the squared error $L_{Diff}$).

Two choices are ours. The network is preconditioned: it only corrects the estimate of $x_0$ by the closed-form
conditional Gaussian of :mod:`pykeen_dans.generation.gaussian`, in units of its standard deviation, so that a few
dozen steps between two epochs are enough. And sampling takes a few strided deterministic steps (DDIM; Song et al.,
2021) that contain the bands; the full ancestral chain can be selected.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Literal

import torch
from class_resolver import HintOrType, OptionalKwargs
from pykeen.typing import FloatTensor, LongTensor

from ..bank import QueryBatch
from ..validation import make_by_name, validate_at_least, validate_bands, validate_choice, validate_positive
from .base import Budget, FitReport, Generator, World
from .denoiser import Condition, Denoiser
from .gaussian import GaussianPrior
from .schedule import NoiseSchedule, ddim_step, ddpm_step, noise_schedule_resolver, strided_timesteps
from .space import EntitySpace

__all__ = [
    "DiffusionGenerator",
]

logger = logging.getLogger(__name__)


#: The number of positives to which the Gaussian prior is fitted
_PRIOR_SAMPLES = 4096


@dataclasses.dataclass(frozen=True)
class EncodedCondition:
    """A condition, encoded once for all steps of a chain.

    :param film: the modulation of the denoiser's blocks, shape: (n, 2 * hidden_dim * num_blocks)
    :param encoded: the encoding of the condition, shape: (n, hidden_dim)
    :param mean: what the Gaussian prior expects, shape: (n, dim)
    """

    film: FloatTensor
    encoded: FloatTensor
    mean: FloatTensor


class DiffusionGenerator(Generator):
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
        super().__init__()
        validate_choice("sampling", sampling, ("ddim", "ddpm"))
        validate_choice("loss", loss, ("l2", "l1"))
        self.bands = list(validate_bands("bands", bands, num_timesteps))
        self.num_bands = len(self.bands)
        self.num_timesteps = num_timesteps
        self.num_steps = validate_at_least("num_steps", num_steps, 1)
        self.sampling = sampling
        self.loss = loss
        self.batch_size = validate_at_least("batch_size", batch_size, 1)
        self.trained = trained
        self.schedule = make_by_name(
            "schedule", noise_schedule_resolver, schedule, {**(schedule_kwargs or {}), "num_timesteps": num_timesteps}
        )
        self.prior = GaussianPrior(num_features=3 * dim + 1, dim=dim)
        self.denoiser = Denoiser(
            dim=dim,
            num_relations=num_relations,
            num_timesteps=num_timesteps,
            hidden_dim=hidden_dim,
            num_blocks=num_blocks,
            condition_dropout=condition_dropout,
            conditioned=conditioned,
        )
        self.optimizer = torch.optim.Adam(
            self.denoiser.parameters(), lr=validate_positive("learning_rate", learning_rate)
        )

    def condition(
        self,
        *,
        space: EntitySpace,
        world: World,
        queries: QueryBatch,
        answers: LongTensor,
        centroids: FloatTensor,
    ) -> Condition:
        """Gather what the denoiser is told about queries.

        :param space: the current entity vectors
        :param world: what is known of the graph
        :param queries: n queries
        :param answers: shape: (n,) an answer of each, whose type and difficulty are taken
        :param centroids: shape: (num_types, dim) the centroids of all types

        :returns: the condition
        """
        device = space.device
        kept, relations, sides = (x.to(device) for x in (queries.kept, queries.relations, queries.sides))
        return Condition(
            query=space.queries(kept, relations, sides),
            kept=space.vectors[kept],
            type=centroids[world.types.labels[answers].to(device)],
            relation=sides * world.index.num_relations + relations,
            difficulty=world.difficulty[answers].to(device),
        )

    def encode(self, condition: Condition) -> EncodedCondition:
        """Encode conditions once for all steps of a chain.

        :param condition: the condition of n vectors

        :returns: its encoding
        """
        film, encoded = self.denoiser.encode(condition)
        features = condition.features if self.denoiser.conditioned else torch.zeros_like(condition.features)
        return EncodedCondition(film=film, encoded=encoded, mean=self.prior.mean(features))

    def predict_start(
        self, x: FloatTensor, timesteps: LongTensor, abar: FloatTensor, condition: EncodedCondition
    ) -> tuple[FloatTensor, FloatTensor, FloatTensor]:
        """Predict the noise-free vectors.

        :param x: shape: (n, dim) noisy vectors
        :param timesteps: shape: (n,) or () their timesteps
        :param abar: shape: (n, 1) the share of signal of each
        :param condition: the encoded condition

        :returns: the prediction, that of the Gaussian prior alone, and the standard deviation of the latter, each of
            shape: (n, dim)
        """
        estimate, deviation = self.prior.estimate(x, condition.mean, abar)
        correction = self.denoiser(x, timesteps, (condition.film, condition.encoded))
        return estimate + deviation * correction, estimate, deviation

    def predict_noise(
        self, x: FloatTensor, timesteps: LongTensor, abar: FloatTensor, condition: EncodedCondition
    ) -> FloatTensor:
        """Predict the noise in vectors.

        :param x: shape: (n, dim) noisy vectors
        :param timesteps: shape: (n,) or () their timesteps
        :param abar: shape: (n, 1) the share of signal of each
        :param condition: the encoded condition

        :returns: shape: (n, dim) the predicted noise
        """
        start, _, _ = self.predict_start(x, timesteps, abar, condition)
        return (x - abar.sqrt() * start) / (1 - abar).sqrt()

    def fit(self, *, space: EntitySpace, world: World, budget: Budget, random: torch.Generator) -> FitReport:
        """Train the denoiser on positives, see :meth:`Generator.fit`."""
        losses: list[FloatTensor] = []
        if not self.trained:
            return FitReport(steps=0, seconds=0.0, metrics={})
        centroids = world.types.centroids(space.vectors)
        if self.denoiser.conditioned:
            condition, x0 = self._positives(_PRIOR_SAMPLES, space, world, centroids, random)
            self.prior.fit(condition.features, x0)
        self.train()
        while budget.allow(1):
            losses.append(self._training_step(space=space, world=world, centroids=centroids, random=random))
            budget.spend(1)
        self.eval()
        metrics = {"diffusion_loss": torch.stack(losses).mean().item()} if losses else {}
        return FitReport(steps=len(losses), seconds=budget.elapsed, metrics=metrics)

    def _positives(
        self, size: int, space: EntitySpace, world: World, centroids: FloatTensor, random: torch.Generator
    ) -> tuple[Condition, FloatTensor]:
        """Draw positives, and return their conditions and the vectors that are to be restored."""
        queries, answers = world.sample_positives(size, random)
        condition = self.condition(space=space, world=world, queries=queries, answers=answers, centroids=centroids)
        return condition, space.vectors[answers.to(space.device)]

    def _training_step(
        self, *, space: EntitySpace, world: World, centroids: FloatTensor, random: torch.Generator
    ) -> FloatTensor:
        condition, x0 = self._positives(self.batch_size, space, world, centroids, random)
        timesteps = torch.randint(1, self.num_timesteps + 1, size=(len(x0),), generator=random).to(space.device)
        noise = torch.randn(x0.shape, generator=random).to(space.device)
        abar = self.schedule.alpha_bars(condition.difficulty).gather(1, timesteps[:, None])
        x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
        with torch.enable_grad():
            start, _, deviation = self.predict_start(x_t, timesteps, abar, self.encode(condition))
            # the error of the noise is a multiple of this one, by a factor that is tiny where noise prevails; in units
            # of what the prior leaves open all timesteps teach alike
            error = (start - x0) / deviation
            loss = error.abs().mean() if self.loss == "l1" else error.pow(2).mean()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            noise_error = (start.detach() - x0) * (abar / (1 - abar)).sqrt()
        return noise_error.abs().mean() if self.loss == "l1" else noise_error.pow(2).mean()

    @torch.no_grad()
    def generate(
        self,
        *,
        space: EntitySpace,
        world: World,
        queries: QueryBatch,
        random: torch.Generator,
    ) -> FloatTensor:
        """Run the reverse process and keep the vectors at the bands, see :meth:`Generator.generate`."""
        self.eval()
        answers = world.index.sample_answer(queries.rows, random)
        condition = self.condition(
            space=space,
            world=world,
            queries=queries,
            answers=answers,
            centroids=world.types.centroids(space.vectors),
        )
        encoded = self.encode(condition)
        abars = self.schedule.alpha_bars(condition.difficulty)
        steps = (
            list(range(self.num_timesteps, min(self.bands) - 1, -1))
            if self.sampling == "ddpm"
            else strided_timesteps(self.num_timesteps, self.bands, self.num_steps)
        )
        x = torch.randn((len(queries), space.dim), generator=random).to(space.device)
        found: dict[int, FloatTensor] = {}
        for current, following in zip(steps, [*steps[1:], None], strict=True):
            if current in self.bands:
                found[current] = x / abars[:, current, None].sqrt()
            if following is None:
                break
            x = self._step(x, current, following, abars, encoded, random)
        return torch.stack([found[band] for band in self.bands], dim=1)

    def _step(
        self,
        x: FloatTensor,
        current: int,
        following: int,
        abars: FloatTensor,
        encoded: EncodedCondition,
        random: torch.Generator,
    ) -> FloatTensor:
        abar = abars[:, current, None]
        timestep = torch.tensor(current, device=x.device)
        predicted = self.predict_noise(x, timestep, abar, encoded)
        following_abar = abars[:, following, None]
        if self.sampling == "ddim":
            return ddim_step(x, predicted, abar, following_abar)[0]
        noise = torch.randn(x.shape, generator=random).to(x.device)
        return ddpm_step(x, predicted, abar, following_abar, noise=noise)[0]

    def adjust_hardness(self, band: int, harder: bool) -> bool:
        """Move the timestep of a band by one, within the room that its neighbours leave."""
        wanted = self.bands[band] + (-1 if harder else 1)
        lower = self.bands[band + 1] if band + 1 < self.num_bands else 0
        upper = self.bands[band - 1] if band > 0 else self.num_timesteps + 1
        if not lower < wanted < upper:
            return False
        self.bands[band] = wanted
        return True
