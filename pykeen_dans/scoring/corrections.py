r"""Losses over sampled candidates that estimate the same losses over all entities.

Each candidate stands for a number of entities, its weight (see :mod:`pykeen_dans.scoring.proposals`). How the weight
enters depends on the loss:

========================================  ==============================================================================
cross entropy, InfoNCE                    the logarithm of the weight is added to the negative's logit, after margin and
                                          temperature. The positive's logit stays as it is.
NSSA, adversarially weighted BCE          the logarithm of the weight is added to the logit of the *weights* of
                                          negatives, after the adversarial temperature
all pointwise losses that take weights    the weight, scaled such that all negatives of one positive have a chosen
                                          weight in expectation, is the ``neg_weights`` of the loss
========================================  ==============================================================================

So losses converge to those of scoring all entities, and are equal to them if the pool is all entities. Pairwise losses
compare one positive with one negative; there is no weight to enter, and they are refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from pykeen.losses import (
    AdversarialBCEWithLogitsLoss,
    AdversarialLoss,
    CrossEntropyLoss,
    DoubleMarginLoss,
    InfoNCELoss,
    Loss,
    NSSALoss,
    PointwiseLoss,
    UnsupportedLabelSmoothingError,
    loss_resolver,
)
from pykeen.typing import BoolTensor, FloatTensor
from torch.nn import functional

from ..utils.validation import validate_positive
from .query_forms import CandidateScores
from .strata import CandidateWeights

__all__ = [
    "LossCorrection",
    "WeightedCandidates",
    "correct_loss",
    "correctable_losses",
    "effective_entities",
    "is_correctable",
    "join_candidates",
]

L = TypeVar("L", bound=Loss)


class WeightedCandidates(NamedTuple):
    """The candidates of a batch, with what they stand for."""

    #: Their scores, shape: ``(batch_size, num_candidates)``
    scores: FloatTensor
    #: The logarithms of their weights, shape: ``(num_candidates,)`` or ``(batch_size, num_candidates)``
    log_weights: FloatTensor
    #: Which of them do not count, shape: ``(batch_size, num_candidates)``
    mask: BoolTensor


def join_candidates(
    scores: CandidateScores, weights: CandidateWeights, vector_log_weights: FloatTensor | None = None
) -> WeightedCandidates:
    """Put all candidates of each query side by side.

    :param scores: the scores
    :param weights: what shared and own candidates stand for
    :param vector_log_weights: the logarithms of what vectors of no entity stand for, minus infinity where there is
        none, shape: ``(batch_size, 1)``

    :returns: the candidates: shared ones, own ones, and vectors
    """
    parts = [WeightedCandidates(scores.shared, weights.shared.expand_as(scores.shared), weights.shared_mask)]
    if scores.own is not None and weights.own is not None and weights.own_mask is not None:
        parts.append(WeightedCandidates(scores.own, weights.own, weights.own_mask))
    if scores.vectors is not None and vector_log_weights is not None:
        log_weights = vector_log_weights.expand_as(scores.vectors)
        parts.append(WeightedCandidates(scores.vectors, log_weights, log_weights.isneginf()))
    if len(parts) == 1:
        return parts[0]
    return WeightedCandidates(*(torch.cat(more, dim=-1) for more in zip(*parts, strict=True)))


def effective_entities(positive: FloatTensor, candidates: WeightedCandidates) -> FloatTensor:
    r"""Estimate how many entities a query's softmax is about, $1 / \sum_e p(e)^2$.

    A pool of $M$ uniform draws has a relative variance of some $|E| / (M N)$ where $N$ is this number: the fewer
    entities matter among many, the more there is to gain from candidates that are chosen for the query.

    :param positive: shape: ``(batch_size,)`` the scores of the positives
    :param candidates: the candidates

    :returns: shape: ``(batch_size,)`` the number of each query, from 1 to the number of entities
    """
    scores = candidates.scores.masked_fill(candidates.mask, -torch.inf)
    once, twice = (
        torch.cat([k * scores + candidates.log_weights, k * positive.unsqueeze(dim=-1)], dim=-1).logsumexp(dim=-1)
        for k in (1, 2)
    )
    return (2 * once - twice).exp()


class LossCorrection(ABC, Generic[L]):
    """A loss over weighted candidates."""

    def __init__(self, loss: L) -> None:
        """Initialize the correction.

        :param loss: the loss, whose parameters are read anew each time, since callbacks may change them
        """
        self.loss = loss

    def __call__(
        self,
        positive: FloatTensor,
        candidates: WeightedCandidates,
        *,
        num_entities: int,
        label_smoothing: float = 0.0,
        row_weights: FloatTensor | None = None,
    ) -> FloatTensor:
        """Compute the loss.

        :param positive: shape: ``(batch_size,)``
            the scores of the positives. There may be none, which gives a loss of zero.
        :param candidates: the candidates
        :param num_entities: the number of entities
        :param label_smoothing: the label smoothing
        :param row_weights: shape: ``(batch_size,)``
            a weight for each positive together with its candidates, default: one

        :returns: a scalar, reduced over the batch as the loss has it. A mean is that of weighted rows, and is not
            divided by the weights, so that parts of a batch add up.

        :raises UnsupportedLabelSmoothingError: if there is label smoothing, and the loss does not support it
        """
        if not len(positive):
            return positive.sum() + candidates.scores.sum()
        # exponentials and sums of half precision are of no use
        dtype = torch.promote_types(positive.dtype, torch.float32)
        scores, log_weights = candidates.scores.to(dtype), candidates.log_weights.to(dtype)
        return self._reduce(
            positive.to(dtype),
            WeightedCandidates(scores, log_weights, candidates.mask),
            num_entities=num_entities,
            label_smoothing=label_smoothing,
            row_weights=None if row_weights is None else row_weights.to(dtype),
        )

    @abstractmethod
    def _reduce(
        self,
        positive: FloatTensor,
        candidates: WeightedCandidates,
        *,
        num_entities: int,
        label_smoothing: float,
        row_weights: FloatTensor | None,
    ) -> FloatTensor:
        """Compute the loss of a batch that is not empty."""
        raise NotImplementedError

    def _reduce_rows(self, rows: FloatTensor, row_weights: FloatTensor | None) -> FloatTensor:
        """Reduce one value for each positive, shape: ``(batch_size,)``, to a scalar."""
        if row_weights is not None:
            rows = rows * row_weights
        return rows.sum() if self.loss.reduction == "sum" else rows.mean()


def _weighted_logits(logits: FloatTensor, candidates: WeightedCandidates) -> FloatTensor:
    """Add weights to logits, and make those that do not count as low as can be, but finite.

    Rows of infinite logits would have gradients that are no numbers.
    """
    lowest = torch.finfo(logits.dtype).min / 2
    # there is no gradient through the mask, since the exponential of such a logit, and hence its gradient, is zero
    return logits + candidates.log_weights.expand_as(logits).masked_fill(candidates.mask, lowest)


class _CrossEntropyCorrection(LossCorrection[CrossEntropyLoss]):
    """The logarithms of weights enter logits."""

    def _reduce(
        self,
        positive: FloatTensor,
        candidates: WeightedCandidates,
        *,
        num_entities: int,
        label_smoothing: float,
        row_weights: FloatTensor | None,
    ) -> FloatTensor:
        scores = candidates.scores
        if isinstance(self.loss, InfoNCELoss):
            # PyKEEN divides by what it calls the inverse temperature
            positive = (positive - self.loss.margin) / self.loss.inverse_softmax_temperature
            scores = scores / self.loss.inverse_softmax_temperature
        # -log softmax of the positive is log(1 + sum of exp(negative) / exp(positive))
        rows = functional.softplus(_weighted_logits(scores, candidates).logsumexp(dim=-1) - positive)
        if label_smoothing:
            # a part of the probability is distributed equally over all entities, whose sum of logits is estimated, too
            weights = candidates.log_weights.exp().expand_as(scores).masked_fill(candidates.mask, 0.0)
            total = positive + (weights * scores.masked_fill(candidates.mask, 0.0)).sum(dim=-1)
            rows = rows + label_smoothing * (positive - total / num_entities)
        return self._reduce_rows(rows, row_weights)


class _AdversarialCorrection(LossCorrection[AdversarialLoss]):
    """The logarithms of weights enter the logits of the adversarial weights."""

    def _reduce(
        self,
        positive: FloatTensor,
        candidates: WeightedCandidates,
        *,
        num_entities: int,
        label_smoothing: float,
        row_weights: FloatTensor | None,
    ) -> FloatTensor:
        if label_smoothing:
            raise UnsupportedLabelSmoothingError(self.loss)
        scores = candidates.scores
        logits = _weighted_logits(scores.detach() * self.loss.inverse_softmax_temperature, candidates)
        # where no negative counts, the softmax would be a uniform one over those that do not
        weights = logits.softmax(dim=-1).masked_fill(candidates.mask, 0.0)
        negative = self.loss.negative_loss_term_unreduced(neg_scores=scores)
        rows = self._positive_rows(positive) + (weights * negative).sum(dim=-1)
        return self.loss.factor * self._reduce_rows(rows, row_weights)

    def _positive_rows(self, positive: FloatTensor) -> FloatTensor:
        """Compute the positive terms, which PyKEEN has in reduced form only, shape: ``(batch_size,)``."""
        if isinstance(self.loss, NSSALoss):
            return -functional.logsigmoid(self.loss.margin + positive)
        return functional.softplus(-positive)


class _PointwiseCorrection(LossCorrection[PointwiseLoss]):
    """Weights are weights."""

    def __init__(self, loss: PointwiseLoss, *, negatives_weight: float) -> None:
        super().__init__(loss)
        self.negatives_weight = validate_positive("negatives_weight", negatives_weight)

    def _reduce(
        self,
        positive: FloatTensor,
        candidates: WeightedCandidates,
        *,
        num_entities: int,
        label_smoothing: float,
        row_weights: FloatTensor | None,
    ) -> FloatTensor:
        scores = candidates.scores.masked_fill(candidates.mask, 0.0)
        scale = self.negatives_weight / max(num_entities - 1, 1)
        negative_weights = (candidates.log_weights.exp() * scale).expand_as(scores).masked_fill(candidates.mask, 0.0)
        positive_weights = torch.ones_like(positive) if row_weights is None else row_weights
        if row_weights is not None:
            negative_weights = negative_weights * row_weights.unsqueeze(dim=-1)
        total = positive_weights.sum() + negative_weights.sum()
        # some of PyKEEN's means divide by the number of elements, others by their weights: let these be the same
        is_mean = self.loss.reduction != "sum"
        num_elements = positive.numel() + scores.numel()
        factor = num_elements / total.clamp_min(torch.finfo(total.dtype).tiny) if is_mean else 1.0
        value = self.loss.process_slcwa_scores(
            positive_scores=positive,
            negative_scores=scores,
            label_smoothing=label_smoothing,
            num_entities=num_entities,
            pos_weights=positive_weights * factor,
            neg_weights=(negative_weights * factor).contiguous(),
        )
        # in expectation, each row has this weight; to divide by it instead of the actual weight has no bias
        return value * (total / (len(positive) * (1 + self.negatives_weight))) if is_mean else value


def _kind(loss: type[Loss]) -> type[LossCorrection[Any]] | None:
    """Find the correction for a class of losses, if there is one.

    Only those that compute what is known are taken, i.e., no subclasses of them that compute something else.
    """
    if loss in {CrossEntropyLoss, InfoNCELoss}:
        return _CrossEntropyCorrection
    if loss in {NSSALoss, AdversarialBCEWithLogitsLoss}:
        return _AdversarialCorrection
    if (
        issubclass(loss, PointwiseLoss)
        # it has weights of its own, and refuses others
        and not issubclass(loss, DoubleMarginLoss)
        and loss.process_slcwa_scores is PointwiseLoss.process_slcwa_scores
    ):
        return _PointwiseCorrection
    return None


def is_correctable(loss: type[Loss]) -> bool:
    """Return whether losses of a class can be corrected."""
    return _kind(loss) is not None


def correctable_losses() -> list[str]:
    """List the losses that can be corrected, by the names that PyKEEN resolves."""
    return sorted(name for name, cls in loss_resolver.lookup_dict.items() if is_correctable(cls))


def correct_loss(loss: Loss, *, negatives_weight: float = 1.0) -> LossCorrection[Any]:
    """Make the correction of a loss.

    :param loss: the loss
    :param negatives_weight: the weight of all negatives of one positive, where that of the positive is one; for
        pointwise losses only, since the others have none

    :returns: the loss over weighted candidates

    :raises ValueError: if the loss can not be corrected
    """
    kind = _kind(type(loss))
    if kind is None:
        raise ValueError(
            f"loss={type(loss).__name__} can not be corrected for shared negatives, since single negatives have no "
            f"weights in it; choose loss='crossentropy' (or one of {', '.join(correctable_losses())}), or "
            f"training_loop='slcwa'."
        )
    if kind is _PointwiseCorrection:
        return _PointwiseCorrection(loss, negatives_weight=negatives_weight)  # type: ignore[arg-type]
    return kind(loss)
