r"""A generative adversarial network with two pathways, after DANS (Liu et al., 2024).

Two networks make fake answers to a query. One starts from the kept entity, $z_E \sim N(e_h, \sigma^2 I)$, the other
from entity and relation, $z_R \sim N(e_h \otimes e_r, \sigma^2 I)$, each modulated feature by feature by what it starts
from. A discriminator with two heads tells fakes from entities, and the fakes of one pathway from those of the other.
(From a secondary summary of the paper; sizes, weights and learning rates are those of the authors' published code where
nothing else is said. That code is not what the paper describes, so it was taken for no more than that.)

What is ours: all of it happens in the standardised space of entities, so that $\sigma$ and the size of the output are
in units of its standard deviation; the combination and its inverse are those of the model under training; and hardness
bands. A band is a pathway at a relative *distance* from the positive: 1 is the fake itself, as in the paper, smaller
numbers are points on the way from it to a known answer, whose neighbours are the more plausible the nearer they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import nn
from torch.nn import functional

from ..graph import QueryBatch
from ..space.combination import (
    ComplexProductCombination,
    LearnedCombination,
    ProductCombination,
    ReciprocalProductCombination,
    RotationCombination,
)
from ..space.entity_space import EntitySpace
from ..utils.validation import validate_at_least, validate_choice, validate_non_negative, validate_positive
from .base import Budget, FitReport, Generator, World
from .discriminator import Context, TwoWayDiscriminator
from .film import PathwayNetwork, SafeBatchNorm

__all__ = [
    "WAYS",
    "TwoWayGANGenerator",
    "validate_distances",
    "validate_ways",
]

#: The pathways: from the kept entity, and from kept entity and relation
WAYS = ("entity", "relation")
#: The decay rates of Adam, as usual for GANs
_BETAS = (0.5, 0.999)
#: The momentum of running statistics, PyTorch's default, and the number of positives from which they are taken anew
_MOMENTUM, _CALIBRATION_SAMPLES = 0.1, 1024
#: The factor by which a distance is changed at once
_STEP = 0.8


def validate_ways(name: str, value: Sequence[str]) -> tuple[str, ...]:
    """Check pathways.

    :param name: the argument's name
    :param value: the names of the pathways

    :returns: the pathways

    :raises ValueError: if there is none, one that is not known, or one twice
    """
    ways = (value,) if isinstance(value, str) else tuple(value)
    if not ways or len(set(ways)) < len(ways) or not set(ways) <= set(WAYS):
        raise ValueError(f"{name}={value!r} must name 'entity', 'relation', or both, once each.")
    return ways


def validate_distances(name: str, value: Sequence[float]) -> tuple[float, ...]:
    """Check the distances of hardness bands from the positive.

    :param name: the argument's name
    :param value: the distances

    :returns: the distances

    :raises ValueError: if there is none, one that is not in (0, 1], or if they do not fall
    """
    distances = tuple(value)
    if not distances or any(not 0 < x <= 1 for x in distances) or list(distances) != sorted(set(distances))[::-1]:
        raise ValueError(
            f"{name}={value!r} must be numbers in (0, 1], the easiest (largest) first and none twice, for example "
            f"(1.0, 0.5)."
        )
    return distances


@dataclasses.dataclass(frozen=True)
class _Start:
    """What a pathway starts from: its condition, and the same with noise."""

    condition: FloatTensor
    prior: FloatTensor


class TwoWayGANGenerator(Generator):
    r"""Generate vectors by a two-way GAN.

    :param dim: the dimension of the spaces
    :param num_relations: the number of relations
    :param ways: the pathways, among ``"entity"`` and ``"relation"``; a single one is an ablation of the paper
    :param distances: for each hardness band of a pathway its relative distance from a known answer, in (0, 1], easy
        (large) first. 1 is the generated vector itself. Steering moves easier bands, no nearer than the hardest one.
    :param sigma: the standard deviation $\sigma$ of the priors' noise, in units of that of the entity vectors
    :param inverse: how to get from tail and relation to the head where the model multiplies: ``"conjugate"`` as the
        model's own score does (our choice), or ``"reciprocal"`` by dividing by the relation, as in the published code
    :param residual: whether pathways correct their priors (our choice), or make vectors of their own, as in the paper
    :param film: whether pathways are modulated by their condition; without it, this is the ablation of FiLM
    :param film_weight: the weight $\lambda$ of the modulation's mean squared distance from the identity. The default is
        that of the published code, whose penalty grows with the batch; on ours, it acts little.
    :param film_dim: the width of the modulating networks
    :param pathway_loss: whether the discriminator learns to tell the pathways apart; without it, this is the ablation
        of the auxiliary loss. With a single pathway there is nothing to tell apart.
    :param pathway_weight: the weight of the same loss for the pathways themselves, which then make fakes that are easy
        to tell apart. 0 leaves it to the discriminator, as the published code does.
    :param conditional: whether the discriminator sees the query, too
    :param generator_learning_rate: Adam's learning rate for the pathways
    :param discriminator_learning_rate: Adam's learning rate for the discriminator
    :param discriminator_steps: the number of its steps for each step of the pathways
    :param batch_size: the number of positives in a training step (the default is our choice)
    :param trained: whether to train and use the pathways at all; without, the priors are the fakes, a noise control
    """

    def __init__(
        self,
        *,
        dim: int,
        num_relations: int,
        ways: Sequence[str] = WAYS,
        distances: Sequence[float] = (1.0, 0.5),
        sigma: float = 0.01,
        inverse: Literal["conjugate", "reciprocal"] = "conjugate",
        residual: bool = True,
        film: bool = True,
        film_weight: float = 1e-4,
        film_dim: int = 100,
        pathway_loss: bool = True,
        pathway_weight: float = 1.0,
        conditional: bool = False,
        generator_learning_rate: float = 1e-3,
        discriminator_learning_rate: float = 1e-4,
        discriminator_steps: int = 10,
        batch_size: int = 512,
        trained: bool = True,
    ) -> None:
        """Initialise the generator."""
        super().__init__()
        self.ways = validate_ways("ways", ways)
        self.num_levels = len(validate_distances("distances", distances))
        self.num_bands = self.num_levels * len(self.ways)
        #: the distance of each band, those of one level next to each other
        self.distances = [distance for distance in distances for _ in self.ways]
        self.nearest = min(distances)
        self.sigma = validate_non_negative("sigma", sigma)
        self.inverse = validate_choice("inverse", inverse, ("conjugate", "reciprocal"))
        self.film_weight = validate_non_negative("film_weight", film_weight)
        self.pathway_weight = validate_non_negative("pathway_weight", pathway_weight)
        # a single pathway has nobody to be told apart from
        self.tells_pathways = pathway_loss and len(self.ways) > 1
        self.discriminator_steps = validate_at_least("discriminator_steps", discriminator_steps, 1)
        self.batch_size = validate_at_least("batch_size", batch_size, 1)
        self.trained = trained
        validate_at_least("film_dim", film_dim, 1)
        self.pathways = nn.ModuleList(
            PathwayNetwork(dim=dim, residual=residual, film=film, film_dim=film_dim) for _ in self.ways
        )
        self.combination = LearnedCombination(num_relations=num_relations, dim=dim)
        self.discriminator = TwoWayDiscriminator(dim=dim, conditional=conditional)
        self.generator_optimizer = torch.optim.Adam(
            [*self.pathways.parameters(), *self.combination.parameters()],
            lr=validate_positive("generator_learning_rate", generator_learning_rate),
            betas=_BETAS,
            fused=True,
        )
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=validate_positive("discriminator_learning_rate", discriminator_learning_rate),
            betas=_BETAS,
            fused=True,
        )

    def context(self, space: EntitySpace, queries: QueryBatch) -> Context:
        """Gather the vectors of queries.

        :param space: the current entity vectors
        :param queries: n queries

        :returns: the kept entities, and what the model, or else the learned combination, makes of them and the relation
        """
        kept, relations, sides = (x.to(space.device) for x in (queries.kept, queries.relations, queries.sides))
        vectors = space.vectors[kept]
        if not space.combines:
            return Context(kept=vectors, query=self.combination(vectors, relations, sides))
        return Context(kept=vectors, query=self._invertible(space).queries(kept, relations, sides))

    def _invertible(self, space: EntitySpace) -> EntitySpace:
        """Let the space combine tails and relations in the way that was asked for."""
        combination = space.combination
        multiplies = isinstance(combination, ProductCombination | ComplexProductCombination)
        # the reciprocal of a rotation is its conjugate
        if self.inverse == "conjugate" or not multiplies or isinstance(combination, RotationCombination):
            return space
        return dataclasses.replace(space, combination=ReciprocalProductCombination())

    def start(self, context: Context, random: torch.Generator) -> list[_Start]:
        """Draw what the pathways start from.

        :param context: the vectors of n queries
        :param random: the source of randomness

        :returns: for each pathway its condition and its noisy prior, each of shape: (n, dim)
        """
        starts = []
        for way in self.ways:
            condition = context.kept if way == "entity" else context.query
            noise = torch.randn(condition.shape, generator=random).to(condition.device)
            starts.append(_Start(condition=condition, prior=condition + self.sigma * noise))
        return starts

    def fit(self, *, space: EntitySpace, world: World, budget: Budget, random: torch.Generator) -> FitReport:
        """Train pathways and discriminator in turn, see :meth:`Generator.fit`."""
        if not self.trained:
            return FitReport(steps=0, seconds=0.0, metrics={})
        history: list[dict[str, FloatTensor]] = []
        self.train()
        while budget.allow(1):
            history.append(self._training_step(space=space, world=world, random=random))
            budget.spend(1)
        self._calibrate(space=space, world=world, random=random)
        self.eval()
        metrics = {
            name: torch.stack([metrics[name] for metrics in history]).mean().item()
            for name in (history[0] if history else ())
        }
        return FitReport(steps=len(history), seconds=budget.elapsed, metrics=metrics)

    @torch.no_grad()
    def _calibrate(self, *, space: EntitySpace, world: World, random: torch.Generator) -> None:
        """Take the statistics by which batches are normalised anew (our choice).

        The running ones lag behind by dozens of steps, which is more than there may be between two epochs, after which
        all vectors of the model have moved. With statistics that do not fit, all fakes are about the same.
        """
        queries, _ = world.sample_positives(_CALIBRATION_SAMPLES, random)
        norms = [module for module in self.pathways.modules() if isinstance(module, SafeBatchNorm)]
        for norm in norms:
            norm.reset_running_stats()
            # the mean of all batches, which are one, instead of a moving one
            norm.momentum = None
        self.train()
        for pathway, start in zip(self.pathways, self.start(self.context(space, queries), random), strict=True):
            pathway(start.prior, start.condition)
        for norm in norms:
            norm.momentum = _MOMENTUM

    def _training_step(self, *, space: EntitySpace, world: World, random: torch.Generator) -> dict[str, FloatTensor]:
        queries, answers = world.sample_positives(self.batch_size, random)
        real = space.vectors[answers.to(space.device)]
        with torch.enable_grad():
            context = self.context(space, queries)
            combination_loss = functional.mse_loss(context.query, real) if not space.combines else None
            # the learned combination is a regression, and no pathway bends it
            context = Context(kept=context.kept, query=context.query.detach())
            fakes, metrics = self._generator_step(self.start(context, random), context, combination_loss)
            metrics |= self._discriminator_steps(real, fakes, context)
        return metrics

    def _generator_step(
        self, starts: Sequence[_Start], context: Context, combination_loss: FloatTensor | None
    ) -> tuple[list[FloatTensor], dict[str, FloatTensor]]:
        """Let each pathway make fakes that pass for entities, and for its own.

        :param starts: what the pathways start from
        :param context: the vectors of the queries
        :param combination_loss: the error of the learned combination, if it is in use

        :returns: the detached fakes of each pathway, and metrics
        """
        fakes: list[FloatTensor] = []
        adversarial_loss = pathway_loss = penalties = context.kept.new_zeros(())
        # the judge is not trained by those that are judged
        self.discriminator.requires_grad_(False)
        for number, (pathway, start) in enumerate(zip(self.pathways, starts, strict=True)):
            fake, penalty = pathway(start.prior, start.condition)
            is_real, is_first = self.discriminator(self.discriminator.features(fake, context))
            adversarial_loss = adversarial_loss + _cross_entropy(is_real, 1.0)
            if self.tells_pathways:
                pathway_loss = pathway_loss + _cross_entropy(is_first, float(number == 0))
            penalties = penalties + penalty
            fakes.append(fake.detach())
        loss = adversarial_loss + self.pathway_weight * pathway_loss + self.film_weight * penalties
        if combination_loss is not None:
            loss = loss + combination_loss
        self.generator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.generator_optimizer.step()
        self.discriminator.requires_grad_(True)
        metrics = {"generator_loss": adversarial_loss.detach() / len(fakes), "film_penalty": penalties.detach()}
        return fakes, metrics

    def _discriminator_steps(
        self, real: FloatTensor, fakes: Sequence[FloatTensor], context: Context
    ) -> dict[str, FloatTensor]:
        """Let the discriminator tell entities from fakes, and the pathways apart, for several steps on the same ones.

        :param real: shape: (n, dim) the vectors of answers
        :param fakes: for each pathway its fakes, shape: (n, dim)
        :param context: the vectors of the queries

        :returns: metrics of the last step
        """
        size = len(real)
        # all at once, which is several times as fast as one after the other
        features = torch.cat([self.discriminator.features(vectors, context) for vectors in (real, *fakes)])
        label = torch.zeros(len(features), device=real.device)
        label[:size] = 1.0
        # entities and fakes weigh the same, however many pathways there are (our choice)
        weight = torch.where(label > 0, 1.0, 1 / len(fakes)) / (2 * size)
        first = torch.zeros(len(features) - size, device=real.device)
        first[:size] = 1.0
        for _ in range(self.discriminator_steps):
            is_real, is_first = self.discriminator(features)
            is_first = is_first[size:]
            loss = functional.binary_cross_entropy_with_logits(is_real, label, weight=weight, reduction="sum")
            total = loss
            if self.tells_pathways:
                pathway_loss = functional.binary_cross_entropy_with_logits(is_first, first)
                total = loss + pathway_loss / 2
            self.discriminator_optimizer.zero_grad(set_to_none=True)
            total.backward()
            self.discriminator_optimizer.step()
        right = ((is_real > 0) == (label > 0)).float()
        metrics = {
            "discriminator_loss": loss.detach(),
            # as if there were as many fakes as entities
            "adversarial_accuracy": (right[:size].mean() + right[size:].mean()) / 2,
        }
        if self.tells_pathways:
            metrics["pathway_loss"] = pathway_loss.detach()
            metrics["pathway_accuracy"] = ((is_first > 0) == (first > 0)).float().mean()
        return metrics

    @torch.no_grad()
    def fakes(self, context: Context, random: torch.Generator) -> list[FloatTensor]:
        """Generate fake answers.

        :param context: the vectors of n queries
        :param random: the source of randomness, on the CPU

        :returns: for each pathway, shape: (n, dim) standardised vectors
        """
        self.eval()
        starts = self.start(context, random)
        if not self.trained:
            return [start.prior for start in starts]
        return [pathway(start.prior, start.condition)[0] for pathway, start in zip(self.pathways, starts, strict=True)]

    @torch.no_grad()
    def generate(
        self,
        *,
        space: EntitySpace,
        world: World,
        queries: QueryBatch,
        random: torch.Generator,
    ) -> FloatTensor:
        """Generate vectors at the distances of the bands, see :meth:`Generator.generate`."""
        answers: LongTensor = world.index.sample_answer(queries.rows, random).to(space.device)
        positives = space.vectors[answers]
        fakes = self.fakes(self.context(space, queries), random)
        return torch.stack(
            [
                positives + distance * (fakes[band % len(fakes)] - positives)
                for band, distance in enumerate(self.distances)
            ],
            dim=1,
        )

    def adjust_hardness(self, band: int, harder: bool) -> bool:
        """Move a band towards or away from the positive, within the room that its neighbours leave.

        The hardest one comes no nearer than asked for. Without this bound, bands slid onto the positives of UMLS, where
        the decoder cannot be narrow, and whatever the pathways made no longer mattered.
        """
        num_ways = len(self.ways)
        upper = self.distances[band - num_ways] if band >= num_ways else 1.0
        lower = self.distances[band + num_ways] if band + num_ways < self.num_bands else self.nearest
        wanted = min(upper, max(lower, self.distances[band] * (_STEP if harder else 1 / _STEP)))
        moved = wanted != self.distances[band]
        self.distances[band] = wanted
        return moved


def _cross_entropy(logits: FloatTensor, label: float) -> FloatTensor:
    """Compute the binary cross entropy with the same label for all."""
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
