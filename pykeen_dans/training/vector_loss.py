r"""The loss of generated vectors that are scored themselves, as in the papers, rather than decoded into entities.

Its gradient reaches the model only: the vectors are made without gradient, from detached copies of the model's own.

There are two forms. The *stage's* margin is that of DANS-KGC: $[\gamma_p - S^+ + S^-]_+$, where $\gamma_p$ follows the
curriculum. The *adaptive* margin is that of DHNS' hardness-adaptive loss, read from the published code:
$-\frac12 [\log \sigma(\gamma + S^+) + \log \sigma(-(m_i \gamma + S^-))]$, where $m_i$ rises from hard to easy: a hard
negative only has to be $m_i \gamma$ away, since it may be true. There, heads, tails, and both at once are replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import Tensor
from torch.nn import functional

from ..engine.curriculum import CurriculumState
from ..engine.engine import GenerationEngine
from ..graph import HEAD, TAIL
from ..sampling.reading import reading_plan
from ..space.combination import RotationCombination, TranslationCombination, combination_for
from ..utils.models import forget_cached_vectors
from ..utils.validation import validate_choice

if TYPE_CHECKING:
    from pykeen.losses import Loss
    from pykeen.models import ERModel, Model

__all__ = [
    "LatentLoss",
]

#: What is replaced by a generated vector, as the sides of the query
_KINDS = {"head": (HEAD,), "tail": (TAIL,), "both": (HEAD, TAIL)}


class LatentLoss:
    """A loss of positives against generated vectors.

    The margin is that of the loss under training; where it has none, it is 1 for the stage's form, and 0 for the
    adaptive one, as the published code has it for bilinear models. With several semantic levels, the vectors of all of
    them make one negative together: models that measure a distance get their mean (the published code fuses them by
    the attention of its scoring model), for others the scores are averaged.

    :param weight: the weight of this loss
    :param num_negatives: the number of generated negatives for each positive
    :param kinds: what is replaced, among ``"head"``, ``"tail"`` and ``"both"``; they take turns
    :param adaptive: whether each band has the margin of its hardness, in the form of DHNS, rather than that of the
        stage

    :raises ValueError: if a kind is unknown
    """

    def __init__(
        self,
        *,
        weight: float,
        num_negatives: int,
        kinds: Sequence[str] = ("head", "tail"),
        adaptive: bool = False,
    ) -> None:
        """Initialise the loss."""
        self.weight = weight
        self.num_negatives = num_negatives
        if not kinds or isinstance(kinds, str):
            raise ValueError(f"latent_kinds={kinds!r} must list one or more of {', '.join(_KINDS)}.")
        self.kinds = tuple(validate_choice("latent_kinds", kind, _KINDS) for kind in kinds)
        self.adaptive = adaptive

    def supports(self, model: Model) -> TypeGuard[ERModel[Any, Any, Any]]:
        """Tell whether the interaction of a model takes one vector for each entity.

        :param model: the model

        :returns: whether it does
        """
        from pykeen.models import ERModel

        return isinstance(model, ERModel) and len(model.entity_representations) == 1

    def kinds_of(self, engine: GenerationEngine) -> tuple[str, ...]:
        """Leave out what is never generated for, since the sampler does not corrupt this side.

        :param engine: the engine

        :returns: the kinds, none of which may be left
        """
        return tuple(kind for kind in self.kinds if set(_KINDS[kind]) <= set(engine.settings.sides))

    def add_gradient(
        self,
        *,
        model: ERModel[Any, Any, Any],
        loss: Loss,
        engine: GenerationEngine,
        positives: LongTensor,
        state: CurriculumState,
    ) -> float:
        """Add the gradient of this loss to that of the model's parameters.

        :param model: the model under training
        :param loss: its loss, for the margin
        :param engine: the engine, in the space of the model
        :param positives: shape: (n, 3) positive triples
        :param state: what the curriculum asks for

        :returns: the value of the loss
        """
        # losses without a margin, as PyKEEN's softplus loss, tell a margin of 0
        margin = getattr(loss, "margin", None) or (0.0 if self.adaptive else 1.0)
        weights = state.hardness_weights
        hardness = torch.multinomial(torch.tensor(weights), self.num_negatives, replacement=True)
        factors = (self.adaptive and state.margin_factors) or (state.margin_factor,) * len(weights)
        margins = margin * torch.tensor(factors)[hardness]
        kinds = self.kinds_of(engine)
        of_kind, of_way = self._turns(num_kinds=len(kinds), way_shares=engine.settings.way_shares)
        places = hardness * engine.settings.num_ways + of_way
        # a collapsed generator is trusted less, as in the share of what is read from the bank
        weight = self.weight * engine.trust
        total = 0.0
        for number, kind in enumerate(kinds):
            mine = of_kind == number
            chosen = places[mine]
            rows = _queries_of(engine, positives.cpu(), _KINDS[kind])
            known = (rows >= 0).all(dim=0)
            if len(chosen) == 0 or not bool(known.any()):
                continue
            # what the batch's own loss has computed is used up by its gradient
            forget_cached_vectors(model)
            vectors = {
                side: _by_level(engine, of_side[known])[:, chosen].to(model.device)
                for side, of_side in zip(_KINDS[kind], rows, strict=True)
            }
            positive, negative = _scores(model, positives[known].to(model.device), vectors)
            error = self._error(positive, negative, margin=margin, margins=margins[mine].to(negative.device))
            error = weight * len(chosen) / self.num_negatives * error
            error.backward()
            total += error.item()
        # the batch's own loss has the regularisation already
        model.collect_regularization_term()
        return total

    def _turns(self, *, num_kinds: int, way_shares: tuple[float, ...]) -> tuple[LongTensor, LongTensor]:
        """Tell what each vector replaces, and from which pathway it is, shapes: (num_negatives,).

        Where there are fewer vectors than kinds or pathways, another batch has the others.
        """
        plan = reading_plan(num_columns=self.num_negatives, num_sides=max(1, num_kinds), way_shares=way_shares)
        readers = plan.readers[torch.randint(len(plan.readers), size=())]
        return readers // len(way_shares), readers % len(way_shares)

    def _error(
        self, positive: FloatTensor, negative: FloatTensor, *, margin: float, margins: FloatTensor
    ) -> FloatTensor:
        """Compare scores.

        :param positive: shape: (n, 1) the scores of positives
        :param negative: shape: (n, k) the scores of generated negatives
        :param margin: the margin of the loss
        :param margins: shape: (k,) the margin of each negative

        :returns: shape: () the mean error
        """
        if self.adaptive:
            return -0.5 * (
                functional.logsigmoid(margin + positive).mean() + functional.logsigmoid(-(margins + negative)).mean()
            )
        return functional.relu(margins - positive + negative).mean()


def _by_level(engine: GenerationEngine, rows: LongTensor) -> Tensor:
    """Generate for queries, shape: (n, num_hardness_levels * num_ways, num_levels, ...)."""
    shape = (-1, engine.settings.num_levels, engine.settings.num_ways)
    return engine.generate(rows).unflatten(1, shape).movedim(3, 2).flatten(1, 2)


def _queries_of(engine: GenerationEngine, positives: LongTensor, sides: Sequence[int]) -> LongTensor:
    """Find the queries of positives, shape: (num_sides, n), -1 where training has none."""
    return torch.stack(
        [engine.index.find(positives[:, 2 if side == HEAD else 0], positives[:, 1], side) for side in sides]
    )


def _scores(
    model: ERModel[Any, Any, Any], positives: LongTensor, vectors: dict[int, Tensor]
) -> tuple[FloatTensor, FloatTensor]:
    """Score positives, and generated vectors in their place.

    :param model: the model
    :param positives: shape: (n, 3)
    :param vectors: for each side that is replaced, shape: (n, k, num_levels, ...) generated vectors

    :returns: the scores of shape: (n, 1) and of shape: (n, k)
    """
    head, relation, tail = model._get_representations(
        h=positives[:, 0, None], r=positives[:, 1, None], t=positives[:, 2, None], mode=None
    )
    positive = model.interaction(h=head, r=relation, t=tail)
    num_levels = next(iter(vectors.values())).shape[2]
    if isinstance(combination_for(model.interaction), TranslationCombination | RotationCombination):
        fused = {side: x.mean(dim=2) for side, x in vectors.items()}
        return positive, model.interaction(h=fused.get(HEAD, head), r=relation, t=fused.get(TAIL, tail))
    # the levels are further negatives until they have a score
    flat = {side: x.flatten(1, 2) for side, x in vectors.items()}
    negative = model.interaction(h=flat.get(HEAD, head), r=relation, t=flat.get(TAIL, tail))
    return positive, negative.unflatten(1, (-1, num_levels)).mean(dim=2)
