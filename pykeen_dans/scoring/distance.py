r"""The distance forms of PyKEEN's interactions.

Their scores are negative norms. Those of a difference of two vectors, one of the query and one of the candidate, are
distances, which :func:`torch.cdist` computes without a vector for each pair: those of the Euclidean norm by a matrix
product, $\|q\|^2 + \|e\|^2 - 2 q^T e$. Where relations scale or project candidates, too, the Euclidean norm is still a
sum of matrix products, and other norms are not. A single candidate of each query is scored as PyKEEN does it, since the
products lose digits where query and candidate are close to each other, as they are for the positives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from pykeen.nn import modules
from pykeen.typing import LABEL_TAIL, FloatTensor, Target
from pykeen.utils import at_least_eps, ensure_complex, project_entity
from torch import nn
from torch.nn import functional

from .bilinear import real
from .forms import BroadcastForm, QueryForm, Terms
from .representations import Vectors

__all__ = [
    "DISTANCE_FORMS",
]

#: Where squared distances become zero, so that their root has a gradient
_TINY = 1.0e-12


class _Prepared(NamedTuple):
    """A query in both ways."""

    #: The representations of kept entity and relation
    raw: Any
    #: What the products need
    terms: Any


class _PreparedForm(BroadcastForm):
    """Scores that are products for candidates of all queries, and PyKEEN's for those of one query each."""

    def __init__(self, interaction: Any, side: Target, *, query: Callable[[Any, Any], Any]) -> None:
        super().__init__(interaction, side)
        self._query = query

    def query(self, kept: Vectors, relation: Vectors) -> _Prepared:
        return _Prepared((kept, relation), self._query(kept, relation))

    def score_own(self, query: _Prepared, entities: Vectors) -> FloatTensor:
        return self._interact(query.raw, entities)

    def _score_slice(self, query: _Prepared, entities: Vectors) -> FloatTensor:
        return self.score_shared(query, entities)


class _DistanceForm(_PreparedForm):
    """Scores that are negative distances between a vector of the query and one of the candidate."""

    name: ClassVar[str] = "distance"

    def __init__(
        self,
        interaction: Any,
        side: Target,
        *,
        query: Callable[[Any, Any], Terms],
        candidate: Callable[[Any], Terms],
        p: float,
        power_norm: bool,
    ) -> None:
        super().__init__(interaction, side, query=query)
        self._candidate = candidate
        self.p = p
        self.power_norm = power_norm

    def score_shared(self, query: _Prepared, entities: Vectors) -> FloatTensor:
        vectors, offset = query.terms
        other_vectors, other_offset = self._candidate(entities)
        # there are no distances of half precision on a CPU
        dtype = torch.promote_types(vectors.dtype, torch.float32)
        distances = torch.cdist(vectors.to(dtype), other_vectors.to(dtype), p=self.p)
        scores = -(distances**self.p if self.power_norm else distances).to(vectors.dtype)
        if offset is not None:
            scores = scores + offset.unsqueeze(dim=-1)
        return scores if other_offset is None else scores + other_offset


class _QuadraticForm(_PreparedForm):
    """Scores that are negative Euclidean distances, whose squares are sums of products."""

    name: ClassVar[str] = "quadratic"

    def __init__(
        self,
        interaction: Any,
        side: Target,
        *,
        query: Callable[[Any, Any], Any],
        squares: Callable[[Any, Any], FloatTensor],
        offset: Callable[[Any, Any], FloatTensor] | None = None,
    ) -> None:
        super().__init__(interaction, side, query=query)
        self._squares = squares
        self._offset = offset

    def score_shared(self, query: _Prepared, entities: Vectors) -> FloatTensor:
        squares = self._squares(query.terms, entities)
        scores = -(squares if self.interaction.power_norm else squares.clamp_min(_TINY).sqrt())
        return scores if self._offset is None else scores + self._offset(query.raw[0], entities)


def _squared(x: FloatTensor) -> FloatTensor:
    return x.square().sum(dim=-1)


def _weighted_squares(query: tuple[FloatTensor, FloatTensor], e: FloatTensor) -> FloatTensor:
    """Compute squared norms of a + w * e.

    :param query: shapes: ``(batch_size, dim)``
        the vectors a and w
    :param e: shape: ``(num_candidates, dim)``
        the vectors of the candidates

    :returns: shape: ``(batch_size, num_candidates)``
    """
    a, w = query
    factors = torch.cat([2 * a * w, w.square()], dim=-1)
    return _squared(a).unsqueeze(dim=-1) + factors @ torch.cat([e, e.square()], dim=-1).t()


def _trans_e(interaction: modules.TransEInteraction, side: Target) -> QueryForm:
    sign = 1 if side == LABEL_TAIL else -1
    return _DistanceForm(
        interaction,
        side,
        query=lambda e, r: (e + sign * r, None),
        candidate=lambda e: (e, None),
        p=interaction.p,
        power_norm=interaction.power_norm,
    )


def _um(interaction: modules.UMInteraction, side: Target) -> QueryForm:
    return _DistanceForm(
        interaction,
        side,
        query=lambda e, _: (e, None),
        candidate=lambda e: (e, None),
        p=interaction.p,
        power_norm=interaction.power_norm,
    )


def _rotat_e(interaction: modules.RotatEInteraction, side: Target) -> QueryForm:
    def query(e: FloatTensor, r: FloatTensor) -> Terms:
        e, r = ensure_complex(e, r)
        # PyKEEN rotates what there is less of
        return real(e * r if side == LABEL_TAIL else e * r.conj()), None

    # PyKEEN takes the Euclidean norm, whatever was asked for
    return _DistanceForm(
        interaction,
        side,
        query=query,
        candidate=lambda e: (real(next(iter(ensure_complex(e)))), None),
        p=2,
        power_norm=False,
    )


def _mu_re(interaction: modules.MuREInteraction, side: Target) -> QueryForm | None:
    if side == LABEL_TAIL:
        return _DistanceForm(
            interaction,
            side,
            query=lambda h, r: (h[0] * r[1] + r[0], h[1]),
            candidate=lambda t: (t[0], t[1]),
            p=interaction.p,
            power_norm=interaction.power_norm,
        )
    if interaction.p != 2:
        return None
    return _QuadraticForm(
        interaction,
        side,
        query=lambda t, r: (r[0] - t[0], r[1]),
        squares=lambda query, h: _weighted_squares(query, h[0]),
        offset=lambda t, h: t[1].unsqueeze(dim=-1) + h[1],
    )


def _scaled(
    interaction: modules.NormBasedInteraction[Any, Any, Any],
    side: Target,
    factors: Callable[[Any], tuple[FloatTensor, FloatTensor, FloatTensor | float]],
) -> QueryForm | None:
    """Make the form of an interaction whose score is the negative norm of a * h - b * t + c.

    :param interaction: the interaction
    :param side: the side
    :param factors: from relations to a, b and c

    :returns: the form
    """
    if interaction.p != 2:
        return None

    def query(e: FloatTensor, r: Any) -> tuple[FloatTensor, FloatTensor]:
        a, b, c = factors(r)
        return (a * e + c, -b) if side == LABEL_TAIL else (c - b * e, a)

    return _QuadraticForm(interaction, side, query=query, squares=_weighted_squares)


def _pair_re(interaction: modules.PairREInteraction, side: Target) -> QueryForm | None:
    return _scaled(interaction, side, lambda r: (r[0], r[1], 0.0))


def _linea_re(interaction: modules.LineaREInteraction, side: Target) -> QueryForm | None:
    return _scaled(interaction, side, lambda r: (r[0], r[2], r[1]))


def _triple_re(interaction: modules.TripleREInteraction, side: Target) -> QueryForm | None:
    u = interaction.u or 0.0
    return _scaled(interaction, side, lambda r: (r[0] + u, r[2] + u, r[1]))


def _trans_h(interaction: modules.TransHInteraction, side: Target) -> QueryForm | None:
    if interaction.p != 2:
        return None
    sign = 1 if side == LABEL_TAIL else -1

    def project(x: FloatTensor, w: FloatTensor) -> FloatTensor:
        return x - (x * w).sum(dim=-1, keepdim=True) * w

    def query(e: FloatTensor, r: Sequence[FloatTensor]) -> tuple[FloatTensor, FloatTensor]:
        w, d = r
        return project(e, w) + sign * d, w

    def squares(terms: tuple[FloatTensor, FloatTensor], e: FloatTensor) -> FloatTensor:
        a, w = terms
        # |e - (e.w) w|^2 = |e|^2 + (|w|^2 - 2) (e.w)^2, and a.(e - (e.w) w) = (a - (a.w) w).e
        factor = _squared(w).unsqueeze(dim=-1) - 2
        return _squared(a).unsqueeze(dim=-1) + _squared(e) + factor * (w @ e.t()).square() - 2 * (project(a, w) @ e.t())

    return _QuadraticForm(interaction, side, query=query, squares=squares)


def _trans_d(interaction: modules.TransDInteraction, side: Target) -> QueryForm | None:
    if interaction.p != 2:
        return None
    sign = 1 if side == LABEL_TAIL else -1

    def query(e: Sequence[FloatTensor], r: Sequence[FloatTensor]) -> tuple[FloatTensor, FloatTensor]:
        return project_entity(e=e[0], e_p=e[1], r_p=r[1]) + sign * r[0], r[1]

    def squares(terms: tuple[FloatTensor, FloatTensor], e: Sequence[FloatTensor]) -> FloatTensor:
        a, r_p = terms
        vectors, projections = e
        # the projection of e is r_p s + e', cut or filled up with zeros to the dimension of relations
        s = (vectors * projections).sum(dim=-1)
        vectors = functional.pad(vectors, (0, r_p.shape[-1] - vectors.shape[-1]))
        norms = _squared(r_p).unsqueeze(dim=-1) * s.square() + 2 * s * (r_p @ vectors.t()) + _squared(vectors)
        product = (a * r_p).sum(dim=-1, keepdim=True) * s + a @ vectors.t()
        # its norm is at most one
        norm = norms.clamp_min(_TINY).sqrt()
        scale = torch.where(norm < 1, torch.ones_like(norm), at_least_eps(norm).reciprocal())
        return _squared(a).unsqueeze(dim=-1) - 2 * scale * product + scale.square() * norms

    return _QuadraticForm(interaction, side, query=query, squares=squares)


#: The distance forms by the class of the interaction
DISTANCE_FORMS: Mapping[type[nn.Module], Callable[[Any, Target], QueryForm | None]] = {
    modules.LineaREInteraction: _linea_re,
    modules.MuREInteraction: _mu_re,
    modules.PairREInteraction: _pair_re,
    modules.RotatEInteraction: _rotat_e,
    modules.TransDInteraction: _trans_d,
    modules.TransEInteraction: _trans_e,
    modules.TransHInteraction: _trans_h,
    modules.TripleREInteraction: _triple_re,
    modules.UMInteraction: _um,
}
