r"""The diffusion process over the entity vectors of one space, with hardness bands along its reverse chain.

With $\bar\alpha_t$ the share of signal at timestep $t$, a vector is noised to $x_t = \sqrt{\bar\alpha_t} x_0 +
\sqrt{1 - \bar\alpha_t} \epsilon$ and the denoiser is trained to predict $\epsilon$ (Ho et al., 2020). The vectors that
the reverse chain passes on its way are the negatives: early, noisy ones are easy, late ones hard.

Two choices are ours. The network is preconditioned: it only corrects the estimate of $x_0$ by the closed-form
conditional Gaussian of :mod:`pykeen_dans.generators.gaussian`, in units of its standard deviation, so that few steps
between two epochs are of use. And sampling takes a few strided deterministic steps (DDIM; Song et al., 2021) that
contain the bands; the full ancestral chain can be selected.

A process knows no optimiser, so that several of them, each in a space of its own, may share one denoiser.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import nn

from ..graph import Graph, QueryBatch
from ..space.entity_space import EntitySpace
from .denoiser import Condition, DenoisingNetwork
from .gaussian import ConditionalGaussian
from .schedule import NoiseSchedule, add_noise, ddim_step, ddpm_step, strided_timesteps

__all__ = [
    "DiffusionLosses",
    "DiffusionProcess",
    "EncodedCondition",
    "Surroundings",
]

#: The number of positives to which the conditional Gaussian is fitted, and by which it is seen whether that pays
_FIT_SAMPLES, _CHECK_SAMPLES = 4096, 512
#: Where few entities have a place in a space, at most this many times more positives are drawn to find enough of them
_MAX_OVERDRAW = 8
#: Where less of the signal is left, as a share of variance, it is not amplified any further: vectors are almost noise
_LEAST_SIGNAL = 0.01


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What a process is told of entities beside their vectors, for one round of training or generation.

    :param types: shape: (num_entities,) the type of each entity
    :param centroids: shape: (num_types, dim) the centroids of all types
    :param difficulty: shape: (num_entities,) the difficulty of each entity, in (0, 1)
    """

    types: LongTensor
    centroids: FloatTensor
    difficulty: FloatTensor


@dataclasses.dataclass(frozen=True)
class EncodedCondition:
    """A condition, encoded once for all steps of a chain.

    :param network: what the denoiser makes of it
    :param mean: shape: (n, dim) what the conditional Gaussian expects
    """

    network: tuple[FloatTensor, FloatTensor]
    mean: FloatTensor


@dataclasses.dataclass(frozen=True)
class DiffusionLosses:
    """The losses of a batch of positives.

    :param loss: shape: () what is trained on, with a gradient
    :param noise: shape: () the distance of the predicted from the true noise
    :param ridge: shape: () the same without the network, by the conditional Gaussian alone
    """

    loss: FloatTensor
    noise: FloatTensor
    ridge: FloatTensor


class DiffusionProcess(nn.Module):
    """Noise and restore the vectors of one space.

    :param dim: the dimension of the space
    :param denoiser: the network, which other processes may share
    :param schedule: the noise schedule
    :param bands: the timesteps of the hardness bands, easy (large) first
    :param modality: which of the denoiser's modalities this space is
    :param num_steps: the number of denoising steps from noise to the hardest band, None for the ancestral chain
    :param noise_loss: ``"l2"`` or ``"l1"`` distance between noise and predicted noise
    """

    def __init__(
        self,
        *,
        dim: int,
        denoiser: DenoisingNetwork,
        schedule: NoiseSchedule,
        bands: Sequence[int],
        modality: int = 0,
        num_steps: int | None = 4,
        noise_loss: str = "l2",
    ) -> None:
        """Initialise the process."""
        super().__init__()
        self.denoiser = denoiser
        self.schedule = schedule
        self.bands = list(bands)
        self.modality = modality
        self.num_steps = num_steps
        self.noise_loss = noise_loss
        self.gaussian = ConditionalGaussian(num_features=3 * dim + 1, dim=dim)

    def condition(
        self, *, space: EntitySpace, queries: QueryBatch, answers: LongTensor, surroundings: Surroundings
    ) -> Condition:
        """Gather what the denoiser is told about queries.

        :param space: the current entity vectors
        :param queries: n queries
        :param answers: shape: (n,) an answer of each, whose type and difficulty are taken
        :param surroundings: types and difficulty of entities

        :returns: the condition
        """
        device = space.device
        kept, relations, sides = (x.to(device) for x in (queries.kept, queries.relations, queries.sides))
        return Condition(
            query=space.queries(kept, relations, sides),
            kept=space.vectors[kept],
            type=surroundings.centroids[surroundings.types[answers].to(device)],
            relation=relations,
            side=sides,
            difficulty=surroundings.difficulty[answers].to(device),
            modality=self.modality,
        )

    def encode(self, condition: Condition) -> EncodedCondition:
        """Encode conditions once for all steps of a chain.

        :param condition: the condition of n vectors

        :returns: its encoding
        """
        return EncodedCondition(
            network=self.denoiser.encode(condition), mean=self.gaussian.mean(self._features(condition))
        )

    def _features(self, condition: Condition) -> FloatTensor:
        """Tell the features of conditions, shape: (n, 3 * dim + 1), zeros where they are not to be used."""
        return condition.features if self.denoiser.conditioned else torch.zeros_like(condition.features)

    def predict_start(
        self, x: FloatTensor, timesteps: LongTensor, abar: FloatTensor, condition: EncodedCondition
    ) -> tuple[FloatTensor, FloatTensor, FloatTensor]:
        """Predict the noise-free vectors.

        :param x: shape: (n, dim) noisy vectors
        :param timesteps: shape: (n,) or () their timesteps
        :param abar: shape: (n, 1) the share of signal of each
        :param condition: the encoded condition

        :returns: the prediction, that of the conditional Gaussian alone, and the standard deviation of the latter, each
            of shape: (n, dim)
        """
        estimate, deviation = self.gaussian.estimate(x, condition.mean, abar)
        correction = self.denoiser(x, timesteps, condition.network)
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

    def fit_gaussian(
        self, *, space: EntitySpace, graph: Graph, surroundings: Surroundings, random: torch.Generator
    ) -> bool:
        """Fit the conditional Gaussian to the current vectors, where that pays.

        :param space: the current entity vectors
        :param graph: what is known of the graph
        :param surroundings: types and difficulty of entities
        :param random: the source of randomness, on the CPU

        :returns: whether it was fitted
        """
        condition, x0 = self.positives(_CHECK_SAMPLES, space, graph, surroundings, random)
        known = self._features(condition), x0
        if len(x0) == 0 or not self.gaussian.is_outdated(*known):
            return False
        condition, x0 = self.positives(_FIT_SAMPLES, space, graph, surroundings, random)
        self.gaussian.fit(self._features(condition), x0, held_out=known)
        return True

    def positives(
        self, size: int, space: EntitySpace, graph: Graph, surroundings: Surroundings, random: torch.Generator
    ) -> tuple[Condition, FloatTensor]:
        """Draw positives, as often as they occur in training.

        :param size: how many. There may be fewer, since answers without a place in the space are left out.
        :param space: the current entity vectors
        :param graph: what is known of the graph
        :param surroundings: types and difficulty of entities
        :param random: the source of randomness, on the CPU

        :returns: their conditions, and shape: (n, dim) the vectors that are to be restored
        """
        overdraw = min(_MAX_OVERDRAW, math.ceil(space.num_entities / max(1, space.num_members)))
        queries, answers = graph.sample_positives(size * overdraw, random)
        if space.members is not None:
            chosen = torch.isin(answers, space.members).nonzero(as_tuple=True)[0][:size]
            queries, answers = graph.index.select(queries.rows[chosen]), answers[chosen]
        condition = self.condition(space=space, queries=queries, answers=answers, surroundings=surroundings)
        return condition, space.vectors[answers.to(space.device)]

    def losses(self, condition: Condition, x0: FloatTensor, random: torch.Generator) -> DiffusionLosses:
        """Compute the losses of a batch of positives.

        :param condition: their conditions
        :param x0: shape: (n, dim) the vectors that are to be restored
        :param random: the source of randomness for timesteps and noise, on the CPU

        :returns: the losses
        """
        timesteps = torch.randint(1, self.schedule.num_timesteps + 1, size=(len(x0),), generator=random).to(x0.device)
        noise = torch.randn(x0.shape, generator=random).to(x0.device)
        abar = self.schedule.alpha_bars(condition.difficulty).gather(1, timesteps[:, None])
        x_t = add_noise(x0, noise, abar)
        return self._losses(x_t, x0, noise, timesteps, abar, self.encode(condition))

    def _losses(
        self,
        x_t: FloatTensor,
        x0: FloatTensor,
        noise: FloatTensor,
        timesteps: LongTensor,
        abar: FloatTensor,
        condition: EncodedCondition,
    ) -> DiffusionLosses:
        start, estimate, deviation = self.predict_start(x_t, timesteps, abar, condition)
        # the error of the noise is a multiple of that of the vectors, by a factor that is tiny where noise prevails; in
        # units of what the Gaussian leaves open all timesteps teach alike
        of_noise = (abar / (1 - abar)).sqrt()
        return DiffusionLosses(
            loss=self.distance((start - x0) / deviation),
            noise=self.distance((start - x0).detach() * of_noise),
            ridge=self.distance((estimate - x0) * of_noise),
        )

    def distance(self, error: FloatTensor) -> FloatTensor:
        """Tell the size of errors, shape: ()."""
        return error.abs().mean() if self.noise_loss == "l1" else error.pow(2).mean()

    def generate(
        self,
        *,
        space: EntitySpace,
        queries: QueryBatch,
        answers: LongTensor,
        surroundings: Surroundings,
        random: torch.Generator,
    ) -> FloatTensor:
        """Run the reverse process and keep the vectors at the bands.

        :param space: the current entity vectors
        :param queries: n queries
        :param answers: shape: (n,) an answer of each, whose type and difficulty are taken
        :param surroundings: types and difficulty of entities
        :param random: the source of randomness, on the CPU

        :returns: shape: (n, num_bands, dim) standardised vectors, the easiest band first
        """
        condition = self.condition(space=space, queries=queries, answers=answers, surroundings=surroundings)
        encoded = self.encode(condition)
        abars = self.schedule.alpha_bars(condition.difficulty)
        last = self.schedule.num_timesteps
        steps = (
            list(range(last, min(self.bands) - 1, -1))
            if self.num_steps is None
            else strided_timesteps(last, self.bands, self.num_steps)
        )
        x = torch.randn((len(queries), space.dim), generator=random).to(space.device)
        found: dict[int, FloatTensor] = {}
        for current, following in zip(steps, [*steps[1:], None], strict=True):
            if current in self.bands:
                found[current] = self._kept(x, abars[:, current, None])
            if following is not None:
                x = self._step(x, current, following, abars, encoded, random)
        return torch.stack([found[band] for band in self.bands], dim=1)

    def _kept(self, x: FloatTensor, abar: FloatTensor) -> FloatTensor:
        """Turn a state of the chain into a vector whose signal has its full size, unless it is almost noise."""
        return x / abar.clamp(min=_LEAST_SIGNAL).sqrt()

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
        if self.num_steps is not None:
            return ddim_step(x, predicted, abar, following_abar)
        noise = torch.randn(x.shape, generator=random).to(x.device)
        return ddpm_step(x, predicted, abar, following_abar, noise=noise)

    def get_extra_state(self) -> dict[str, list[int]]:
        """Tell the timesteps of bands, which ``state_dict`` holds beside weights."""
        return {"bands": self.bands}

    def set_extra_state(self, state: Mapping[str, list[int]]) -> None:
        """Take over the timesteps of bands.

        :param state: what :meth:`get_extra_state` told
        """
        self.bands = list(state["bands"])

    def adjust_hardness(self, band: int, *, harder: bool) -> bool:
        """Move the timestep of a band by one, within the room that its neighbours leave.

        :param band: the band
        :param harder: whether it is to become harder, i.e. earlier in the noising process

        :returns: whether there was room
        """
        wanted = self.bands[band] + (-1 if harder else 1)
        lower = self.bands[band + 1] if band + 1 < len(self.bands) else 0
        upper = self.bands[band - 1] if band > 0 else self.schedule.num_timesteps + 1
        if not lower < wanted < upper:
            return False
        self.bands[band] = wanted
        return True
