r"""The diffusion process over the entity vectors of one space, with hardness bands along its reverse chain.

With $\bar\alpha_t$ the share of signal at timestep $t$, a vector is noised to $x_t = \sqrt{\bar\alpha_t} x_0 +
\sqrt{1 - \bar\alpha_t} \epsilon$ and the denoiser is trained to predict $\epsilon$ (Ho et al., 2020). The vectors that
the reverse chain passes on its way are the negatives: early, noisy ones are easy, late ones hard.

Two choices are ours. The network is preconditioned: it only corrects the estimate of $x_0$ by the closed-form
conditional Gaussian of :mod:`pykeen_dans.generators.gaussian`, in units of its standard deviation, so that a few
dozen steps between two epochs are enough. And sampling takes a few strided deterministic steps (DDIM; Song et al.,
2021) that contain the bands; the full ancestral chain can be selected.

A chain knows no optimiser, so that several chains, each in a space of its own, may share one denoiser.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import torch
from class_resolver import HintOrType, OptionalKwargs
from pykeen.typing import FloatTensor, LongTensor
from torch import nn

from ..graph import QueryBatch
from ..space.entity_space import EntitySpace
from ..utils.validation import make_by_name, validate_at_least, validate_bands, validate_choice
from .base import World
from .denoiser import Condition, DenoisingNetwork
from .gaussian import GaussianPrior
from .schedule import NoiseSchedule, add_noise, ddim_step, ddpm_step, noise_schedule_resolver, strided_timesteps

__all__ = [
    "DiffusionChain",
    "EncodedCondition",
]

#: The number of positives to which the Gaussian prior is fitted
_PRIOR_SAMPLES = 4096
#: Where few entities have a place in a space, at most this many times more positives are drawn to find enough of them
_MAX_OVERDRAW = 8


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


class DiffusionChain(nn.Module):
    """Noise and restore the vectors of one space.

    :param dim: the dimension of the space
    :param denoiser: the network, which other chains may share
    :param modality: which of the denoiser's modalities this space is
    :param bands: the timesteps of the hardness bands, easy (large) first
    :param num_timesteps: the number of timesteps $T$
    :param num_steps: the number of denoising steps from noise to the hardest band; ignored by ``sampling="ddpm"``
    :param schedule: the noise schedule
    :param schedule_kwargs: its parameters
    :param sampling: ``"ddim"`` for strided deterministic steps, ``"ddpm"`` for all steps of the ancestral chain
    :param loss: ``"l2"`` or ``"l1"`` distance between noise and predicted noise
    :param batch_size: the number of positives in a training step
    """

    def __init__(
        self,
        *,
        dim: int,
        denoiser: DenoisingNetwork,
        modality: int = 0,
        bands: Sequence[int] = (25, 18, 12, 6),
        num_timesteps: int = 50,
        num_steps: int = 4,
        schedule: HintOrType[NoiseSchedule] = None,
        schedule_kwargs: OptionalKwargs = None,
        sampling: Literal["ddim", "ddpm"] = "ddim",
        loss: Literal["l2", "l1"] = "l2",
        batch_size: int = 512,
    ) -> None:
        """Initialise the chain."""
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
        self.modality = modality
        self.schedule = make_by_name(
            "schedule", noise_schedule_resolver, schedule, {**(schedule_kwargs or {}), "num_timesteps": num_timesteps}
        )
        self.prior = GaussianPrior(num_features=3 * dim + 1, dim=dim)
        self.denoiser = denoiser

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
            modality=self.modality,
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

    def fit_prior(self, *, space: EntitySpace, world: World, centroids: FloatTensor, random: torch.Generator) -> None:
        """Fit the Gaussian prior to the current vectors, where there is a condition that it could use.

        :param space: the current entity vectors
        :param world: what is known of the graph
        :param centroids: shape: (num_types, dim) the centroids of all types
        :param random: the source of randomness, on the CPU
        """
        if self.denoiser.conditioned:
            condition, x0 = self._positives(_PRIOR_SAMPLES, space, world, centroids, random)
            if len(x0):
                self.prior.fit(condition.features, x0)

    def _positives(
        self, size: int, space: EntitySpace, world: World, centroids: FloatTensor, random: torch.Generator
    ) -> tuple[Condition, FloatTensor]:
        """Draw positives, and return their conditions and the vectors that are to be restored.

        Answers without a place in the space are left out, so that there may be fewer than asked for.
        """
        overdraw = min(_MAX_OVERDRAW, math.ceil(space.num_entities / max(1, space.num_members)))
        queries, answers = world.sample_positives(size * overdraw, random)
        if space.members is not None:
            (chosen,) = torch.isin(answers, space.members).nonzero(as_tuple=True)
            chosen = chosen[:size]
            queries, answers = world.index.select(queries.rows[chosen]), answers[chosen]
        condition = self.condition(space=space, world=world, queries=queries, answers=answers, centroids=centroids)
        return condition, space.vectors[answers.to(space.device)]

    def training_loss(
        self, *, space: EntitySpace, world: World, centroids: FloatTensor, random: torch.Generator
    ) -> tuple[FloatTensor, FloatTensor] | None:
        """Compute the loss of a batch of positives.

        :param space: the current entity vectors
        :param world: what is known of the graph
        :param centroids: shape: (num_types, dim) the centroids of all types
        :param random: the source of randomness for the batch and its noise, on the CPU

        :returns: the loss, with a gradient, and the error of the predicted noise, without one; None where no positive
            has a place in the space
        """
        condition, x0 = self._positives(self.batch_size, space, world, centroids, random)
        if len(x0) == 0:
            return None
        timesteps = torch.randint(1, self.num_timesteps + 1, size=(len(x0),), generator=random).to(space.device)
        noise = torch.randn(x0.shape, generator=random).to(space.device)
        abar = self.schedule.alpha_bars(condition.difficulty).gather(1, timesteps[:, None])
        x_t = add_noise(x0, noise, abar)
        with torch.enable_grad():
            error, noise_error = self._errors(x_t, x0, noise, timesteps, abar, self.encode(condition))
            return self._distance(error), self._distance(noise_error.detach())

    def _errors(
        self,
        x_t: FloatTensor,
        x0: FloatTensor,
        noise: FloatTensor,
        timesteps: LongTensor,
        abar: FloatTensor,
        condition: EncodedCondition,
    ) -> tuple[FloatTensor, FloatTensor]:
        """Compute the error that is trained on, and that of the predicted noise, both of shape: (n, dim)."""
        start, _, deviation = self.predict_start(x_t, timesteps, abar, condition)
        error = start - x0
        # the error of the noise is a multiple of this one, by a factor that is tiny where noise prevails; in units of
        # what the prior leaves open all timesteps teach alike
        return error / deviation, error * (abar / (1 - abar)).sqrt()

    def _distance(self, error: FloatTensor) -> FloatTensor:
        return error.abs().mean() if self.loss == "l1" else error.pow(2).mean()

    @torch.no_grad()
    def generate(
        self,
        *,
        space: EntitySpace,
        world: World,
        queries: QueryBatch,
        random: torch.Generator,
    ) -> FloatTensor:
        """Run the reverse process and keep the vectors at the bands.

        :param space: the current entity vectors
        :param world: what is known of the graph
        :param queries: n queries
        :param random: the source of randomness, on the CPU

        :returns: shape: (n, num_bands, dim) standardised vectors, the easiest band first
        """
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
                found[current] = self._kept(x, abars[:, current, None])
            if following is None:
                break
            x = self._step(x, current, following, abars, encoded, random)
        return torch.stack([found[band] for band in self.bands], dim=1)

    def _kept(self, x: FloatTensor, abar: FloatTensor) -> FloatTensor:
        """Turn a state of the chain into a vector whose signal has its full size."""
        return x / abar.sqrt()

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
        """Move the timestep of a band by one, within the room that its neighbours leave.

        :param band: the band
        :param harder: whether it is to become harder, i.e. earlier in the noising process

        :returns: whether there was room
        """
        wanted = self.bands[band] + (-1 if harder else 1)
        lower = self.bands[band + 1] if band + 1 < self.num_bands else 0
        upper = self.bands[band - 1] if band > 0 else self.num_timesteps + 1
        if not lower < wanted < upper:
            return False
        self.bands[band] = wanted
        return True
