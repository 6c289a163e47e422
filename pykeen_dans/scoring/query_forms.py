"""Scores of the candidates that a batch of queries shares, by one matrix product where the interaction allows it.

PyKEEN scores candidates by broadcasting: for each pair of query and candidate it makes a vector, and reduces it to a
score. Many interactions can do without. Their *query form* is one vector for each query and one for each candidate,
such that scores are products (``bilinear``), distances (``distance``), or sums of a few products (``quadratic``).
Everything else is left to PyKEEN's own ``forward`` (``broadcast``), or, for models that do not consist of
representations and an interaction, to the model's ``score_t`` and ``score_h`` (``model``).

Whatever the form, the scores are those of :meth:`pykeen.models.Model.score_t` and
:meth:`pykeen.models.Model.score_h`. A form belongs to exactly one class of interactions: subclasses, of which it is not
known what they change, are scored by broadcasting.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pykeen.models import ERModel, Model
from pykeen.nn.modules import ClampedInteraction, Interaction, MonotonicAffineTransformationInteraction
from pykeen.typing import LABEL_HEAD, LABEL_TAIL, FloatTensor, InductiveMode, LongTensor, MappedTriples, Target
from pykeen.utils import get_batchnorm_modules

from ..utils.models import keeping_statistics, not_regularizing, regularizers_of
from ..utils.private import has_plain_scores
from ..utils.validation import validate_at_least, validate_choice
from .bilinear import BILINEAR_FORMS
from .distance import DISTANCE_FORMS
from .forms import BroadcastForm, QueryForm, TransformedForm
from .representations import SIDES, Candidates, TripleRepresentations, for_each

__all__ = [
    "CandidateScores",
    "form_names",
    "query_form",
    "score_candidates",
]


class CandidateScores(NamedTuple):
    """The scores of a batch of queries."""

    #: The scores of the positives, shape: ``(batch_size,)``
    positive: FloatTensor
    #: The scores of the candidates that all queries share, shape: ``(batch_size, num_shared)``
    shared: FloatTensor
    #: The scores of the candidates of each query, shape: ``(batch_size, num_own)``
    own: FloatTensor | None = None
    #: The scores of vectors of no entity, shape: ``(batch_size, num_vectors)``
    vectors: FloatTensor | None = None


def query_form(interaction: Interaction[Any, Any, Any], side: Target) -> QueryForm:
    """Find the fastest form in which an interaction scores the candidates of a side.

    :param interaction: the interaction, in the mode (training or evaluation) in which it is going to be used
    :param side: the side of the candidates

    :returns: the form, which is that of broadcasting where there is no other one
    """
    form = _wrapped_form(interaction, side)
    if form is None:
        for forms in (BILINEAR_FORMS, DISTANCE_FORMS):
            # no subclasses: they may compute something else
            if maker := forms.get(type(interaction)):
                form = maker(interaction, side)
    return BroadcastForm(interaction, side) if form is None else form


def _wrapped_form(interaction: Interaction[Any, Any, Any], side: Target) -> QueryForm | None:
    """Find the form of an interaction that transforms the scores of another one."""
    if type(interaction) is ClampedInteraction:
        base = query_form(interaction.base, side)
        if interaction.clamp_score is None:
            return base
        low, high = interaction.clamp_score
        return TransformedForm(base, lambda scores: torch.clamp(scores, min=low, max=high))
    if type(interaction) is MonotonicAffineTransformationInteraction:
        base = query_form(interaction.base, side)
        return TransformedForm(base, lambda scores: interaction.log_scale.exp() * scores + interaction.bias)
    return None


def scores_vectors(model: Model) -> bool:
    """Tell whether vectors of no entity can be scored, in the place of those of an entity.

    :param model: the model

    :returns: whether it has one vector for each entity, and its scores are what its interaction makes of them
    """
    return has_plain_scores(model) and len(model.entity_representations) == 1


def form_names(model: Model) -> Mapping[Target, str]:
    """Tell the form of each side of a model.

    :param model: the model, in the mode (training or evaluation) in which it is going to be used

    :returns: the names of the forms of both sides
    """
    if not has_plain_scores(model):
        return dict.fromkeys(SIDES, "model")
    return {side: query_form(model.interaction, side).name for side in SIDES}


def score_candidates(
    model: Model,
    positives: MappedTriples,
    candidates: Mapping[Target, Candidates],
    *,
    mode: InductiveMode | None = None,
    slice_size: int | None = None,
) -> Mapping[Target, CandidateScores]:
    """Score positives, and candidates for one or both of their sides.

    :param model: the model
    :param positives: shape: ``(batch_size, 3)``
        the triples, on the model's device
    :param candidates: the candidates for the side ``"head"``, ``"tail"``, or for both of them
    :param mode: the inductive mode, or None if the model is transductive
    :param slice_size: the number of shared candidates to score at a time, default: all. Where scores are made by
        broadcasting, it bounds the memory, at the price of computing them a second time for the gradients.

    :returns: the scores by side, those of the positives being those of the same queries

    :raises ValueError: if a side or the slice size is invalid, if the model can not be sliced since it has batch
        normalisation, or if it can not score a choice of entities
    """
    for side in candidates:
        validate_choice("side", side, SIDES)
    if slice_size is not None:
        validate_at_least("slice_size", slice_size, 1)
        if model.training and (modules := get_batchnorm_modules(model)):
            raise ValueError(
                f"slice_size={slice_size} is impossible for {type(model).__name__}, whose batch normalisation "
                f"({len(modules)} modules) needs all scores at once; leave slice_size out, or make batches smaller."
            )
    if not has_plain_scores(model):
        return {
            side: _score_by_model(model, positives, side=side, candidates=choice, mode=mode, slice_size=slice_size)
            for side, choice in candidates.items()
        }
    representations = TripleRepresentations(model, positives, candidates, mode=mode)
    return {
        side: _score_by_form(model, representations, side, choice.vectors, slice_size)
        for side, choice in candidates.items()
    }


def _score_by_form(
    model: ERModel[Any, Any, Any],
    representations: TripleRepresentations,
    side: Target,
    vectors: FloatTensor | None,
    slice_size: int | None,
) -> CandidateScores:
    """Score by the form of the model's interaction."""
    form = query_form(model.interaction, side)
    query = form.query(representations.kept(side), representations.relation)
    shared, own = representations.shared(side), representations.own(side)
    scores = CandidateScores(
        positive=_score_targets(form, query, representations, side),
        shared=form.score_slices(query, shared, slice_size) if slice_size else form.score_shared(query, shared),
        own=None if own is None else form.score_own(query, own),
    )
    if vectors is None:
        return scores
    with keeping_statistics(model):
        return scores._replace(vectors=form.score_own(query, vectors))


def _score_targets(form: QueryForm, query: Any, representations: TripleRepresentations, side: Target) -> FloatTensor:
    """Score the positives themselves, shape: ``(batch_size,)``."""
    target = representations.target(side)
    return form.score_own(query, for_each(lambda x: x.unsqueeze(dim=1), target)).squeeze(dim=-1)


def _score_by_model(
    model: Model,
    positives: MappedTriples,
    *,
    side: Target,
    candidates: Candidates,
    mode: InductiveMode | None,
    slice_size: int | None,
) -> CandidateScores:
    """Score by the methods of the model."""
    method, name, given, target = (
        (model.score_t, "tails", positives[:, :2], positives[:, 2:])
        if side == LABEL_TAIL
        else (model.score_h, "heads", positives[:, 1:], positives[:, :1])
    )
    parameters = inspect.signature(method).parameters
    if name not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise ValueError(_cannot_choose(model, side))

    def score(ids: LongTensor, **kwargs: Any) -> FloatTensor:
        kwargs[name] = ids
        scores = method(given, mode=mode, **kwargs)
        if scores.shape != (len(positives), ids.shape[-1]):
            raise ValueError(_cannot_choose(model, side))
        return scores

    if candidates.vectors is not None:
        raise ValueError(f"vectors can not be scored by {type(model).__name__}; leave them out.")
    positive, seen = score(target)[:, 0], candidates.representatives
    if seen is not None and regularizers_of(model):
        with keeping_statistics(model):
            score(seen, slice_size=slice_size)
    with contextlib.nullcontext() if seen is None else not_regularizing(model):
        shared = score(candidates.shared, slice_size=slice_size)
    if candidates.own is None:
        return CandidateScores(positive, shared)
    with not_regularizing(model):
        return CandidateScores(positive, shared, score(candidates.own))


def _cannot_choose(model: Model, side: Target) -> str:
    method, name = ("score_h", "heads") if side == LABEL_HEAD else ("score_t", "tails")
    return (
        f"{method} of {type(model).__name__} does not score the {name} that it is asked for; let it take the argument "
        f"{name!r}, as pykeen.models.ERModel does, leave the side {side!r} out, or use training_loop='slcwa'."
    )
