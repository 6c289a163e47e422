r"""The loss of generated vectors that are scored themselves, as in the papers, rather than decoded into entities.

Its gradient reaches the model only: the vectors are made without gradient, from detached copies of the model's own.

There are two forms. The *stage's* margin is that of DANS-KGC: $[\gamma_p - S^+ + S^-]_+$, where $\gamma_p$ follows the
curriculum. *Margins of bands* are those of DHNS' hardness-adaptive loss, read from the published code:
$-\frac12 [\log \sigma(\gamma + S^+) + \log \sigma(-(m_i \gamma + S^-))]$, where $m_i$ rises from hard to easy: a hard
negative only has to be $m_i \gamma$ away, since it may be true. There, heads, tails, and both at once are replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import Tensor
from torch.nn import functional

from ..engine.curriculum import CurriculumState
from ..engine.engine import GenerationEngine
from ..graph import HEAD, TAIL
from ..space.combination import RotationCombination, TranslationCombination, combination_for
from ..utils.logs import warn_once
from ..utils.models import forget_cached_vectors, keeping_statistics
from ..utils.private import representations_of
from ..utils.validation import (
    validate_at_least,
    validate_choice,
    validate_flag,
    validate_non_negative,
    validate_sequence,
)

if TYPE_CHECKING:
    from pykeen.losses import Loss
    from pykeen.models import ERModel, Model

__all__ = [
    "VectorLoss",
]

logger = logging.getLogger(__name__)

#: What is replaced by a generated vector, as the sides of the query
_KINDS = {"head": (HEAD,), "tail": (TAIL,), "both": (HEAD, TAIL)}


class VectorLoss:
    """A loss of positives against generated vectors.

    The margin is that of the loss under training; where it has none, it is 1 for the stage's form, and 0 for that of
    bands, as the published code has it for bilinear models. Where the sources are semantic levels, the vectors of all
    of them make one negative together: models that measure a distance get their mean (the published code fuses them by
    the attention of its scoring model), for others the scores are averaged. Other sources take turns.

    :param weight: the weight of this loss
    :param num_vectors: the number of generated vectors for each positive
    :param kinds: what they replace in turn, among ``"head"``, ``"tail"`` and ``"both"``
    :param band_margins: whether each band has the margin of its hardness, in the form of DHNS, rather than that of the
        stage

    :raises ValueError: if an argument is invalid
    """

    def __init__(
        self,
        *,
        weight: float,
        num_vectors: int = 4,
        kinds: Sequence[str] = ("head", "tail"),
        band_margins: bool = False,
    ) -> None:
        """Initialise the loss."""
        self.weight = validate_non_negative("vector_weight", weight)
        self.num_vectors = validate_at_least("num_vectors", num_vectors, 1)
        if isinstance(kinds, str) or not (listed := validate_sequence("vector_kinds", kinds)):
            raise ValueError(f"vector_kinds={kinds!r} must list one or more of {', '.join(_KINDS)}.")
        self.kinds = tuple(validate_choice("vector_kinds", kind, _KINDS) for kind in listed)
        self.band_margins = validate_flag("band_margins", band_margins)

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
        weights: FloatTensor | None = None,
    ) -> float:
        """Add the gradient of this loss to that of the model's parameters, unless it is not finite.

        :param model: the model under training
        :param loss: its loss, for the margin
        :param engine: the engine, in the space of the model
        :param positives: shape: (n, 3) positive triples
        :param state: what the curriculum asks for
        :param weights: shape: (n,) the weights of the positives, default: all the same

        :returns: the value of the loss
        """
        if engine.trust == 0:
            # a diverged generator has nothing to say
            return 0.0
        # losses without a margin, as PyKEEN's softplus loss, tell a margin of 0
        margin = getattr(loss, "margin", None) or (0.0 if self.band_margins else 1.0)
        bands = torch.multinomial(torch.tensor(state.band_weights), self.num_vectors, replacement=True)
        factors = torch.tensor(state.margin_factors)[bands] if self.band_margins else state.margin_factor
        margins = margin * torch.as_tensor(factors).expand(self.num_vectors)
        kinds = self.kinds_of(engine)
        # where there are fewer vectors than kinds, another batch has the others
        turns = (torch.arange(self.num_vectors) + torch.randint(len(kinds), size=())) % len(kinds)
        total = 0.0
        for number, kind in enumerate(kinds):
            chosen = turns == number
            rows = _queries_of(engine, positives.cpu(), _KINDS[kind])
            known = (rows >= 0).all(dim=0)
            if not bool(chosen.any()) or not bool(known.any()):
                continue
            # what the batch's own loss has computed is used up by its gradient
            forget_cached_vectors(model)
            vectors = {
                side: _take(engine, of_side[known], bands[chosen]).to(model.device)
                for side, of_side in zip(_KINDS[kind], rows, strict=True)
            }
            with keeping_statistics(model):
                positive, negative = _scores(model, positives[known].to(model.device), vectors)
            error = self._error(
                positive,
                negative,
                margin=margin,
                margins=margins[chosen].to(negative.device),
                weights=None if weights is None else weights.view(-1)[known],
            )
            # a collapsed generator is trusted less, as in the share of what is read from the bank
            error = self.weight * engine.trust * chosen.float().mean().item() * error
            if _add_gradient(model, error):
                total += error.item()
            else:
                warn_once(logger, "The loss of generated vectors is not finite; it is left out while this is so.")
        # the batch's own loss has the regularisation already
        model.collect_regularization_term()
        return total

    def _error(
        self,
        positive: FloatTensor,
        negative: FloatTensor,
        *,
        margin: float,
        margins: FloatTensor,
        weights: FloatTensor | None = None,
    ) -> FloatTensor:
        """Compare scores.

        :param positive: shape: (n, 1) the scores of positives
        :param negative: shape: (n, k) the scores of generated negatives
        :param margin: the margin of the loss
        :param margins: shape: (k,) the margin of each negative

        :param weights: shape: (n,) the weight of each positive, default: 1

        :returns: shape: () the mean error
        """
        if self.band_margins:
            errors = -0.5 * (functional.logsigmoid(margin + positive) + functional.logsigmoid(-(margins + negative)))
        else:
            errors = functional.relu(margins - positive + negative)
        return errors.mean() if weights is None else (errors * weights.to(errors)[:, None]).mean()


def _add_gradient(model: ERModel[Any, Any, Any], error: FloatTensor) -> bool:
    """Add the gradient of an error to that of a model, if both are finite; tell whether they were."""
    if not bool(torch.isfinite(error)):
        return False
    parameters = list(model.get_grad_params())
    gradients = torch.autograd.grad(error, parameters, allow_unused=True)
    if not all(gradient is None or bool(torch.isfinite(gradient).all()) for gradient in gradients):
        return False
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return True


def _take(engine: GenerationEngine, rows: LongTensor, bands: LongTensor) -> Tensor:
    """Generate for queries, shape: (n, k, num_levels, ...), where sources that take turns are one level."""
    vectors = engine.generate(rows)[:, bands]
    if engine.ordered:
        return vectors
    turns = (torch.arange(len(bands)) + torch.randint(len(engine.sources), size=())) % len(engine.sources)
    return vectors[:, torch.arange(len(bands)), turns].unsqueeze(dim=2)


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
    head, relation, tail = representations_of(model, positives[:, None])
    positive = model.interaction(h=head, r=relation, t=tail)
    num_levels = next(iter(vectors.values())).shape[2]
    if isinstance(combination_for(model.interaction), TranslationCombination | RotationCombination):
        fused = {side: x.mean(dim=2) for side, x in vectors.items()}
        return positive, model.interaction(h=fused.get(HEAD, head), r=relation, t=fused.get(TAIL, tail))
    # the levels are further negatives until they have a score
    flat = {side: x.flatten(1, 2) for side, x in vectors.items()}
    negative = model.interaction(h=flat.get(HEAD, head), r=relation, t=flat.get(TAIL, tail))
    return positive, negative.unflatten(1, (-1, num_levels)).mean(dim=2)
