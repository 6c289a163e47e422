"""The bilinear forms of PyKEEN's interactions.

Each function makes the form of one interaction for one side, or returns None where that side has none. They are what
:mod:`pykeen.nn.modules` computes, with the sums in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pykeen.nn import modules
from pykeen.nn.utils import apply_optional_bn
from pykeen.typing import LABEL_TAIL, FloatTensor, Target
from torch import nn

from .forms import BilinearForm, QueryForm, Terms, TransformedForm

__all__ = [
    "BILINEAR_FORMS",
    "real",
]


def real(x: FloatTensor) -> FloatTensor:
    """View complex vectors as real ones.

    :param x: shape: ``(*dims, dim)``
        the vectors, complex or real

    :returns: shape: ``(*dims, 2 * dim)``, or what was passed, if it is real
        the vectors, with the same inner products
    """
    return torch.view_as_real(x.resolve_conj()).flatten(start_dim=-2) if x.is_complex() else x


def _plain(x: FloatTensor) -> Terms:
    return x, None


def _real(x: FloatTensor) -> Terms:
    return real(x), None


def _flat(x: FloatTensor) -> Terms:
    return x.flatten(start_dim=-2), None


def _concatenated(xs: Sequence[FloatTensor]) -> Terms:
    return torch.cat(list(xs), dim=-1), None


def _dot(x: FloatTensor, y: FloatTensor) -> FloatTensor:
    return (x * y).sum(dim=-1)


def _distmult(_: modules.DistMultInteraction, __: Target) -> QueryForm:
    return BilinearForm(lambda e, r: (e * r, None), _plain)


def _complex(_: modules.ComplExInteraction, side: Target) -> QueryForm:
    # Re(h r conj(t)) is the inner product of h r and t, and that of conj(r) t and h
    if side == LABEL_TAIL:
        return BilinearForm(lambda h, r: (real(h * r), None), _real)
    return BilinearForm(lambda t, r: (real(r.conj() * t), None), _real)


def _cp(_: modules.CPInteraction, __: Target) -> QueryForm:
    return BilinearForm(lambda e, r: _flat(e * r), _flat)


def _simple(interaction: modules.SimplEInteraction, _: Target) -> QueryForm | None:
    if type(interaction.base) is not modules.DistMultInteraction:
        return None

    def query(e: Sequence[FloatTensor], r: Sequence[FloatTensor]) -> Terms:
        # PyKEEN multiplies the first vectors of both entities with each other, and the second ones
        return 0.5 * torch.cat([e[0] * r[0], e[1] * r[1]], dim=-1), None

    return BilinearForm(query, _concatenated)


def _rescal(_: modules.RESCALInteraction, side: Target) -> QueryForm:
    if side == LABEL_TAIL:
        return BilinearForm(lambda h, r: (torch.einsum("bd,bde->be", h, r), None), _plain)
    return BilinearForm(lambda t, r: (torch.einsum("bde,be->bd", r, t), None), _plain)


def _quate(interaction: modules.QuatEInteraction, side: Target) -> QueryForm:
    pattern = "bdi,bdj,ijk->bdk" if side == LABEL_TAIL else "bdk,bdj,ijk->bdi"
    return BilinearForm(lambda e, r: _flat(-torch.einsum(pattern, e, r, interaction.table)), _flat)


def _hole(_: modules.HolEInteraction, side: Target) -> QueryForm:
    # r . (h * t), where * is the circular correlation, is (r convolved with h) . t, and (r * t) . h
    def query(e: FloatTensor, r: FloatTensor) -> Terms:
        first, second = torch.fft.rfft(r, dim=-1), torch.fft.rfft(e, dim=-1)
        product = first * second if side == LABEL_TAIL else first.conj() * second
        return torch.fft.irfft(product, n=e.shape[-1], dim=-1), None

    return BilinearForm(query, _plain)


def _distma(_: modules.DistMAInteraction, __: Target) -> QueryForm:
    return BilinearForm(lambda e, r: (e + r, _dot(e, r)), _plain)


def _transf(_: modules.TransFInteraction, side: Target) -> QueryForm:
    if side == LABEL_TAIL:
        return BilinearForm(lambda h, r: (2 * h + r, -_dot(h, r)), _plain)
    return BilinearForm(lambda t, r: (2 * t - r, _dot(r, t)), _plain)


def _autosf(interaction: modules.AutoSFInteraction[Any, Any, Any], side: Target) -> QueryForm:
    is_tail = side == LABEL_TAIL

    def query(e: Any, r: Any) -> Terms:
        es, rs = (x if isinstance(x, Sequence) else [x] for x in (e, r))
        blocks = [torch.zeros_like(es[0]) for _ in interaction.entity_shape]
        for head, relation, tail, sign in interaction.coefficients:
            kept, target = (head, tail) if is_tail else (tail, head)
            blocks[target] = blocks[target] + sign * es[kept] * rs[relation]
        return torch.cat(blocks, dim=-1), None

    return BilinearForm(query, lambda e: _concatenated(e if isinstance(e, Sequence) else [e]))


def _multilinear_tucker(interaction: modules.MultiLinearTuckerInteraction, side: Target) -> QueryForm:
    pattern = "ijk,bi,bj->bk" if side == LABEL_TAIL else "ijk,bk,bj->bi"
    return BilinearForm(lambda e, r: (torch.einsum(pattern, interaction.core_tensor, e, r), None), _plain)


def _tucker(interaction: modules.TuckERInteraction, side: Target) -> QueryForm | None:
    def matrix(r: FloatTensor) -> FloatTensor:
        return interaction.relation_dropout(torch.einsum("ijk,bj->bik", interaction.core_tensor, r))

    if side == LABEL_TAIL:

        def query(h: FloatTensor, r: FloatTensor) -> Terms:
            h = interaction.head_dropout(apply_optional_bn(x=h, batch_norm=interaction.head_batch_norm))
            x = torch.einsum("bik,bi->bk", matrix(r), h)
            x = apply_optional_bn(x=x, batch_norm=interaction.head_relation_batch_norm)
            return interaction.head_relation_dropout(x), None

        return BilinearForm(query, _plain)

    # dropout and batch normalisation apply to each pair of head and relation, i.e., to each score
    dropouts = (interaction.head_dropout, interaction.relation_dropout, interaction.head_relation_dropout)
    if interaction.head_batch_norm is not None or any(x.training and x.p for x in dropouts):
        return None
    return BilinearForm(lambda t, r: (torch.einsum("bik,bk->bi", matrix(r), t), None), _plain)


def _proje(interaction: modules.ProjEInteraction, side: Target) -> QueryForm | None:
    if side != LABEL_TAIL:
        return None

    def query(h: FloatTensor, r: FloatTensor) -> Terms:
        x = interaction.inner_activation(h * interaction.d_e + r * interaction.d_r + interaction.b_c)
        return x, interaction.b_p.expand(len(x))

    return TransformedForm(BilinearForm(query, _plain), interaction.outer_activation)


def _crosse(interaction: modules.CrossEInteraction, side: Target) -> QueryForm | None:
    if side != LABEL_TAIL:
        return None

    def query(h: FloatTensor, r: Sequence[FloatTensor]) -> Terms:
        embedding, weight = r
        h = weight * h
        x = interaction.activation(interaction.bias + h + h * embedding)
        return (x if interaction.dropout is None else interaction.dropout(x)), None

    return BilinearForm(query, _plain)


def _ermlpe(interaction: modules.ERMLPEInteraction, side: Target) -> QueryForm | None:
    if side != LABEL_TAIL:
        return None
    return BilinearForm(lambda h, r: (interaction.mlp(torch.cat([h, r], dim=-1)), None), _plain)


def _transformer(interaction: modules.TransformerInteraction, side: Target) -> QueryForm | None:
    if side != LABEL_TAIL:
        return None

    def query(h: FloatTensor, r: FloatTensor) -> Terms:
        x = torch.stack([h, r], dim=0) + interaction.position_embeddings.unsqueeze(dim=1)
        return interaction.final(interaction.transformer(src=x).sum(dim=0)), None

    return BilinearForm(query, _plain)


def _conve(interaction: modules.ConvEInteraction, side: Target) -> QueryForm | None:
    if side != LABEL_TAIL:
        return None
    info = interaction.shape_info

    def query(h: FloatTensor, r: FloatTensor) -> Terms:
        shape = (-1, info.input_channels, info.image_height, info.image_width)
        x = interaction.hr2d(torch.cat([h.view(shape), r.view(shape)], dim=-2))
        return interaction.hr1d(x.view(-1, info.num_in_features)), None

    # the second representation of tails is their bias
    return BilinearForm(query, lambda t: (t[0], t[1]))


#: The bilinear forms by the class of the interaction
BILINEAR_FORMS: Mapping[type[nn.Module], Callable[[Any, Target], QueryForm | None]] = {
    modules.AutoSFInteraction: _autosf,
    modules.CPInteraction: _cp,
    modules.ComplExInteraction: _complex,
    modules.ConvEInteraction: _conve,
    modules.CrossEInteraction: _crosse,
    modules.DistMAInteraction: _distma,
    modules.DistMultInteraction: _distmult,
    modules.ERMLPEInteraction: _ermlpe,
    modules.HolEInteraction: _hole,
    modules.MultiLinearTuckerInteraction: _multilinear_tucker,
    modules.ProjEInteraction: _proje,
    modules.QuatEInteraction: _quate,
    modules.RESCALInteraction: _rescal,
    modules.SimplEInteraction: _simple,
    modules.TransFInteraction: _transf,
    modules.TransformerInteraction: _transformer,
    modules.TuckERInteraction: _tucker,
}
