"""Entity representations for PyKEEN's models.

Features of entities shape what a *sampler* generates; by these representations, the *model* can use them, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from class_resolver import HintOrType, OptionalKwargs
from pykeen.nn.representation import Representation
from pykeen.regularizers import Regularizer
from pykeen.typing import BoolTensor, FloatTensor, Hint, LongTensor, Normalizer, OneOrSequence
from torch import Tensor, nn

from ..space.entity_space import real_view
from . import STRUCTURAL, Modality, modalities_in_use

__all__ = [
    "MultimodalRepresentation",
]

#: No vector is scaled up from less than this
_MINIMUM_SIZE = 1e-12


class _Projection(nn.Module):
    """Project the features of one modality.

    :param modality: the modality
    :param dim: the number of dimensions to project into
    """

    features: FloatTensor
    covered: BoolTensor

    def __init__(self, modality: Modality, *, dim: int) -> None:
        """Initialise the projection."""
        super().__init__()
        # a few features of large size would drown all others; on the covered entities, their mean square becomes 1
        size = modality.features[modality.covered].pow(2).mean().sqrt()
        self.register_buffer("features", modality.features / size)
        self.register_buffer("covered", modality.covered)
        self.linear = nn.Linear(modality.dim, dim)

    def forward(self, indices: LongTensor | None) -> FloatTensor:
        """Project the features of some entities, or of all, shape: (n, dim)."""
        projected: FloatTensor = self.linear(self.features if indices is None else self.features[indices])
        return projected

    def scale_to(self, size: FloatTensor) -> None:
        """Scale the weights such that the vectors of covered entities have a given mean square."""
        factor = size / self(None)[self.covered].pow(2).mean().sqrt().clamp(min=_MINIMUM_SIZE)
        for parameter in self.linear.parameters():
            parameter.mul_(factor)


class MultimodalRepresentation(Representation):
    r"""Fuse what a model learns from triples with features of other modalities, by attention.

    For an entity, there is one vector for each modality $m$: a trainable embedding $x_s$ (structural), and a linear
    projection $x_m = P_m f_m$ of its features. With one trainable vector $a$,

    .. math::
        x = \sum_m w_m x_m, \qquad w = \operatorname{softmax}_m(a \cdot \tanh(x_m))

    as in AdaMF [Zhang2024]_, and in the published code of DHNS for TransE and RotatE. Modalities in which an
    entity has no features are left out of the softmax, so that it falls back on the others, in the end on its
    structural vector; in the published code, it gets the bias of the projection in their place. Vectors of complex
    models are fused in their real view, with one weight for both parts of a number.

    Ours are, too: the features are fixed, of mean square 1, and the projections begin at the size of the structural
    vectors. (In the published code, features are trained, and nothing is scaled.)

    It takes the place of the embedding in any model with one vector for each entity. The features are those which the
    training triples bring along, unless others are given:

    .. code-block:: python

        pipeline(
            dataset="MKGW",
            dataset_kwargs=dict(textual=dict(text="entity_text.tsv")),
            model="RotatE",
            model_kwargs=dict(entity_representations="multimodal"),
        )

    :param max_id: the number of entities
    :param shape: the shape of an entity's vector
    :param modalities: the features, as for :func:`pykeen_dans.multimodal.load_modalities`, default: those that the
        training triples bring along
    :param structural: the structural representation, default: :class:`pykeen.nn.Embedding`
    :param normalizer: a normalizer of the fused vectors
    :param normalizer_kwargs: its parameters
    :param regularizer: a regularizer of the fused vectors
    :param regularizer_kwargs: its parameters
    :param dropout: the dropout of the fused vectors
    :param unique: whether to fuse the vectors of each entity only once for a batch, default: without dropout
    :param structural_kwargs: parameters of the structural representation, by which models say how they initialise and
        constrain their entities

    :raises ValueError: if there are no features, or they do not fit the entities
    """

    projections: Sequence[_Projection]

    def __init__(
        self,
        max_id: int,
        shape: OneOrSequence[int] = 64,
        *,
        modalities: Mapping[str, Any] | None = None,
        structural: HintOrType[Representation] = None,
        normalizer: Hint[Normalizer] = None,
        normalizer_kwargs: OptionalKwargs = None,
        regularizer: HintOrType[Regularizer] = None,
        regularizer_kwargs: OptionalKwargs = None,
        dropout: float | None = None,
        unique: bool | None = None,
        **structural_kwargs: Any,
    ) -> None:
        """Initialise the representation."""
        from pykeen.nn import representation_resolver

        super().__init__(
            max_id=max_id,
            shape=shape,
            normalizer=normalizer,
            normalizer_kwargs=normalizer_kwargs,
            regularizer=regularizer,
            regularizer_kwargs=regularizer_kwargs,
            dropout=dropout,
            unique=unique,
        )
        loaded = modalities_in_use(modalities, num_entities=max_id)
        if not loaded:
            raise ValueError(
                "modalities has no features, and the training triples bring none along: give them to the data set "
                "(e.g. dataset_kwargs=dict(textual=...)), by pykeen_dans.multimodal.attach_modalities, or as "
                "modalities."
            )
        self.structural = representation_resolver.make(structural, structural_kwargs, max_id=max_id, shape=self.shape)
        #: the names of the modalities, in the order of :meth:`views`
        self.names = (STRUCTURAL, *(modality.name for modality in loaded))
        dim = real_view(self.structural(torch.zeros(1, dtype=torch.long))).shape[1]
        self.projections = nn.ModuleList(  # type: ignore[assignment]
            _Projection(modality, dim=dim) for modality in loaded
        )
        self.attention = nn.Linear(dim, 1, bias=False)
        self.reset_parameters()

    # docstr-coverage: inherited
    def reset_parameters(self) -> None:  # noqa: D102
        # PyKEEN resets the parts of a module before the module itself
        with torch.no_grad():
            size = real_view(self.structural(None)).pow(2).mean().sqrt()
            for projection in self.projections:
                projection.scale_to(size)

    def views(self, indices: LongTensor | None = None) -> tuple[FloatTensor, BoolTensor]:
        """Get the vectors of entities in each modality, before they are fused.

        :param indices: shape: (n,) the ids of entities, or None for all

        :returns: shape: (n, num_modalities, dim) the vectors, in their real view, the structural one first; and shape:
            (n, num_modalities) whether an entity has features in a modality
        """
        vectors = [real_view(self.structural(indices)), *(each(indices) for each in self.projections)]
        masks = [each.covered if indices is None else each.covered[indices] for each in self.projections]
        return torch.stack(vectors, dim=1), torch.stack([torch.ones_like(masks[0]), *masks], dim=1)

    def weights(self, views: FloatTensor, covered: BoolTensor) -> FloatTensor:
        """Weigh modalities.

        :param views: shape: (n, num_modalities, dim) vectors
        :param covered: shape: (n, num_modalities) which of them count

        :returns: shape: (n, num_modalities) weights, whose sum is 1
        """
        logits: FloatTensor = self.attention(views.tanh()).squeeze(dim=-1)
        return logits.masked_fill(~covered, -torch.inf).softmax(dim=-1)

    def fuse(self, views: FloatTensor, covered: BoolTensor) -> Tensor:
        """Fuse the vectors of several modalities.

        :param views: shape: (n, num_modalities, dim) vectors in their real view, e.g. those of :meth:`views`, or
            generated ones
        :param covered: shape: (n, num_modalities) which of them count; at least one for each row

        :returns: shape: (n, *self.shape) vectors, complex where the structural ones are
        """
        fused = torch.einsum("nm,nmd->nd", self.weights(views, covered), views)
        if getattr(self.structural, "is_complex", False):
            return torch.view_as_complex(fused.reshape(-1, *self.shape, 2))
        return fused.reshape(-1, *self.shape)

    # docstr-coverage: inherited
    def _plain_forward(self, indices: LongTensor | None = None) -> Tensor:
        if indices is None:
            return self.fuse(*self.views())
        return self.fuse(*self.views(indices.to(self.device).flatten())).view(*indices.shape, *self.shape)
