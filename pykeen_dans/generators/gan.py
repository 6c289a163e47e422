r"""A generative adversarial network with two pathways, after DANS (Liu et al., 2024).

Two networks make fake answers to a query. One starts from the kept entity, the other from entity and relation (see
:mod:`pykeen_dans.generators.prior`), each modulated feature by feature by what it starts from. A discriminator with two
heads tells fakes from entities, and the fakes of one pathway from those of the other. (From a secondary summary of the
paper; sizes, weights and learning rates are those of the authors' published code where nothing else is said. That code
is not what the paper describes, so it was taken for no more than that.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pykeen.typing import FloatTensor
from torch import nn
from torch.nn import functional

from ..graph import Graph, QueryBatch
from ..space.combination import LearnedCombination
from ..space.entity_space import EntitySpace
from ..utils.budget import Budget
from ..utils.validation import validate_at_least, validate_flag, validate_non_negative, validate_positive
from .base import FitReport, generator_resolver
from .discriminator import TwoWayDiscriminator
from .film import PathwayNetwork, SafeBatchNorm
from .prior import PATHWAYS, PriorGenerator, Start

__all__ = [
    "TwoWayGANGenerator",
]

#: The decay rates of Adam, as usual for GANs
_BETAS = (0.5, 0.999)
#: The momentum of running statistics, PyTorch's default, and the number of positives from which they are taken anew
_MOMENTUM, _CALIBRATION_SAMPLES = 0.1, 1024


class TwoWayGANGenerator(PriorGenerator):
    r"""Generate vectors by a two-way GAN.

    :param dim: the dimension of the spaces
    :param num_relations: the number of relations
    :param num_bands: the number of hardness bands
    :param pathways: ``"entity"``, ``"relation"``, or both; a single one is an ablation of the paper
    :param distances: see :class:`PriorGenerator`
    :param sigma: see :class:`PriorGenerator`
    :param residual: whether pathways correct their priors (our choice), or make vectors of their own, as in the paper
    :param film: whether pathways are modulated by their condition; without it, this is the ablation of FiLM
    :param film_weight: the weight $\lambda$ of the modulation's mean squared distance from the identity. The default is
        that of the published code, whose penalty grows with the batch; on ours, it acts little.
    :param two_heads: whether the discriminator learns to tell the pathways apart; without it, this is the ablation of
        the auxiliary loss. With a single pathway there is nothing to tell apart.
    :param pathway_weight: the weight of the same loss for the pathways themselves, which then make fakes that are easy
        to tell apart. 0 leaves it to the discriminator, as the published code does.
    :param generator_learning_rate: Adam's learning rate for the pathways
    :param discriminator_learning_rate: Adam's learning rate for the discriminator
    :param generator_steps: the number of steps of the pathways in each turn
    :param discriminator_steps: the number of steps of the discriminator in each turn
    :param batch_size: the number of positives in a training step (the default is our choice)
    :param trained: whether to train and use the pathways at all; without, this is the generator ``prior``

    :raises ValueError: if an argument is invalid
    """

    def __init__(
        self,
        *,
        dim: int,
        num_relations: int,
        num_bands: int = 2,
        pathways: Sequence[str] = PATHWAYS,
        distances: Sequence[float] | None = None,
        sigma: float = 0.01,
        residual: bool = True,
        film: bool = True,
        film_weight: float = 1e-4,
        two_heads: bool = True,
        pathway_weight: float = 1.0,
        generator_learning_rate: float = 1e-3,
        discriminator_learning_rate: float = 1e-4,
        generator_steps: int = 1,
        discriminator_steps: int = 10,
        batch_size: int = 512,
        trained: bool = True,
    ) -> None:
        """Initialise the generator."""
        super().__init__(
            dim=dim,
            num_relations=num_relations,
            num_bands=num_bands,
            pathways=pathways,
            distances=distances,
            sigma=sigma,
        )
        self.film_weight = validate_non_negative("film_weight", film_weight)
        self.pathway_weight = validate_non_negative("pathway_weight", pathway_weight)
        self.tells_pathways = validate_flag("two_heads", two_heads) and len(self.sources) > 1
        self.generator_steps = validate_at_least("generator_steps", generator_steps, 1)
        self.discriminator_steps = validate_at_least("discriminator_steps", discriminator_steps, 1)
        self.batch_size = validate_at_least("batch_size", batch_size, 1)
        self.trained = validate_flag("trained", trained)
        validate_flag("residual", residual)
        validate_flag("film", film)
        self.pathways = nn.ModuleList(PathwayNetwork(dim=dim, residual=residual, film=film) for _ in self.sources)
        self.combination = LearnedCombination(num_relations=num_relations, dim=dim)
        self.discriminator = TwoWayDiscriminator(dim=dim)
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

    def combine(self, space: EntitySpace, queries: QueryBatch) -> FloatTensor:
        """Combine kept entities and relations as the model does, or else in a way that is learned."""
        if space.combines:
            return super().combine(space, queries)
        kept, relations, sides = (x.to(space.device) for x in (queries.kept, queries.relations, queries.sides))
        combined: FloatTensor = self.combination(space.vectors[kept], relations, sides)
        return combined

    def fit(self, *, space: EntitySpace, graph: Graph, budget: Budget, random: torch.Generator) -> FitReport:
        """Train pathways and discriminator in turn, see :meth:`Generator.fit`."""
        if not self.trained:
            return FitReport()
        history: list[dict[str, FloatTensor]] = []
        self.train()
        while budget.allow(1):
            history.append(self._turn(space, graph, random))
            budget.spend(1)
        self._calibrate(space, graph, random)
        self.eval()
        metrics = {
            name: torch.stack([metrics[name] for metrics in history]).mean().item()
            for name in (history[0] if history else ())
        }
        return FitReport(steps=len(history), seconds=budget.elapsed, metrics=metrics)

    @torch.no_grad()
    def _calibrate(self, space: EntitySpace, graph: Graph, random: torch.Generator) -> None:
        """Take the statistics by which batches are normalised anew (our choice).

        The running ones lag behind by dozens of steps, which is more than there may be between two epochs, after which
        all vectors of the model have moved. With statistics that do not fit, all fakes are about the same.
        """
        queries, _ = graph.sample_positives(_CALIBRATION_SAMPLES, random)
        norms = [module for module in self.pathways.modules() if isinstance(module, SafeBatchNorm)]
        for norm in norms:
            norm.reset_running_stats()
            # the mean of all batches, which are one, instead of a moving one
            norm.momentum = None
        self.train()
        for pathway, start in zip(self.pathways, self.start(space, queries, random), strict=True):
            pathway(start.prior, start.condition)
        for norm in norms:
            norm.momentum = _MOMENTUM

    def _turn(self, space: EntitySpace, graph: Graph, random: torch.Generator) -> dict[str, FloatTensor]:
        """Let pathways and discriminator take their steps on one batch of positives each."""
        metrics: dict[str, FloatTensor] = {}
        for _ in range(self.generator_steps):
            queries, answers = graph.sample_positives(self.batch_size, random)
            real = space.vectors[answers.to(space.device)]
            if not space.combines:
                # a regression by itself: no pathway bends it
                functional.mse_loss(self.combine(space, queries), real).backward()
            with torch.no_grad():
                starts = self.start(space, queries, random)
            fakes, metrics = self._generator_step(starts)
        return metrics | self._discriminator_steps(real, fakes)

    def _generator_step(self, starts: Sequence[Start]) -> tuple[list[FloatTensor], dict[str, FloatTensor]]:
        """Let each pathway make fakes that pass for entities, and for its own.

        :param starts: what the pathways start from

        :returns: the detached fakes of each pathway, and metrics
        """
        fakes: list[FloatTensor] = []
        adversarial_loss = pathway_loss = penalties = starts[0].prior.new_zeros(())
        # the judge is not trained by those that are judged
        self.discriminator.requires_grad_(False)
        for number, (pathway, start) in enumerate(zip(self.pathways, starts, strict=True)):
            fake, penalty = pathway(start.prior, start.condition)
            is_real, is_first = self.discriminator(fake)
            adversarial_loss = adversarial_loss + _cross_entropy(is_real, 1.0)
            if self.tells_pathways:
                pathway_loss = pathway_loss + _cross_entropy(is_first, float(number == 0))
            penalties = penalties + penalty
            fakes.append(fake.detach())
        loss = adversarial_loss + self.pathway_weight * pathway_loss + self.film_weight * penalties
        loss.backward()
        self.generator_optimizer.step()
        self.generator_optimizer.zero_grad(set_to_none=True)
        self.discriminator.requires_grad_(True)
        metrics = {"generator_loss": adversarial_loss.detach() / len(fakes), "film_penalty": penalties.detach()}
        return fakes, metrics

    def _discriminator_steps(self, real: FloatTensor, fakes: Sequence[FloatTensor]) -> dict[str, FloatTensor]:
        """Let the discriminator tell entities from fakes, and the pathways apart, for several steps on the same ones.

        :param real: shape: (n, dim) the vectors of answers
        :param fakes: for each pathway its fakes, shape: (n, dim)

        :returns: metrics of the last step
        """
        size = len(real)
        # all at once, which is several times as fast as one after the other
        vectors = torch.cat([real, *fakes])
        label = torch.zeros(len(vectors), device=real.device)
        label[:size] = 1.0
        # entities and fakes weigh the same, however many pathways there are (our choice)
        weight = torch.where(label > 0, 1.0, 1 / len(fakes)) / (2 * size)
        first = torch.zeros(len(vectors) - size, device=real.device)
        first[:size] = 1.0
        for _ in range(self.discriminator_steps):
            is_real, is_first = self.discriminator(vectors)
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
    def fakes(self, space: EntitySpace, queries: QueryBatch, random: torch.Generator) -> list[FloatTensor]:
        """Make fake answers by the pathways, see :meth:`PriorGenerator.fakes`."""
        if not self.trained:
            return super().fakes(space, queries, random)
        self.eval()
        starts = self.start(space, queries, random)
        return [pathway(start.prior, start.condition)[0] for pathway, start in zip(self.pathways, starts, strict=True)]


def _cross_entropy(logits: FloatTensor, label: float) -> FloatTensor:
    """Compute the binary cross entropy with the same label for all."""
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


generator_resolver.register(TwoWayGANGenerator)
