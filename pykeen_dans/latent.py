"""The loss of generated vectors that are scored themselves, as in the papers, rather than decoded into entities.

Its gradient reaches the model only: the vectors are made without gradient, from detached copies of the model's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch.nn import functional

from .bank import HEAD, TAIL
from .curriculum import CurriculumState
from .engine import GenerationEngine
from .generation.space import forget_cached_vectors

if TYPE_CHECKING:
    from pykeen.losses import Loss
    from pykeen.models import ERModel, Model

__all__ = [
    "LatentLoss",
]


class LatentLoss:
    r"""A margin loss of positives against generated vectors, $[\gamma - S(h, r, t) + S(h, r, \hat{x})]_+$.

    The paper's loss is margin-based (from a secondary summary); $\gamma$ is the margin of the loss under training times
    the curriculum's factor, 1 where it has none. Heads and tails take turns.

    :param weight: the weight of this loss
    :param num_negatives: the number of generated vectors for each positive
    """

    def __init__(self, *, weight: float, num_negatives: int) -> None:
        """Initialise the loss."""
        self.weight = weight
        self.num_negatives = num_negatives

    def supports(self, model: Model) -> TypeGuard[ERModel[Any, Any, Any]]:
        """Tell whether the interaction of a model takes one vector for each entity.

        :param model: the model

        :returns: whether it does
        """
        from pykeen.models import ERModel

        return isinstance(model, ERModel) and len(model.entity_representations) == 1

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
        margin = (getattr(loss, "margin", None) or 1.0) * state.margin_factor
        bands = torch.multinomial(torch.tensor(state.weights), self.num_negatives, replacement=True)
        total = 0.0
        for side, chosen in ((HEAD, bands[0::2]), (TAIL, bands[1::2])):
            if len(chosen) == 0:
                continue
            kept = positives[:, 2 if side == HEAD else 0].cpu()
            rows = engine.index.find(kept, positives[:, 1].cpu(), side)
            known = rows >= 0
            if not bool(known.any()):
                continue
            # what the batch's own loss has computed is used up by its gradient
            forget_cached_vectors(model)
            vectors = engine.generate(rows[known])[:, chosen].to(model.device)
            error = self._margin_error(model, positives[known].to(model.device), vectors, side=side, margin=margin)
            error = self.weight * len(chosen) / self.num_negatives * error
            error.backward()
            total += error.item()
        # the batch's own loss has the regularisation already
        model.collect_regularization_term()
        return total

    def _margin_error(
        self, model: ERModel[Any, Any, Any], positives: LongTensor, vectors: FloatTensor, *, side: int, margin: float
    ) -> FloatTensor:
        """Compare positives with generated vectors.

        :param model: the model
        :param positives: shape: (n, 3)
        :param vectors: shape: (n, k, ...) generated vectors in the place of the heads or tails
        :param side: the side that they replace
        :param margin: the margin

        :returns: shape: () the mean error
        """
        head, relation, tail = model._get_representations(
            h=positives[:, 0, None], r=positives[:, 1, None], t=positives[:, 2, None], mode=None
        )
        positive_scores = model.interaction(h=head, r=relation, t=tail)
        negative_scores = (
            model.interaction(h=vectors, r=relation, t=tail)
            if side == HEAD
            else model.interaction(h=head, r=relation, t=vectors)
        )
        return functional.relu(margin - positive_scores + negative_scores).mean()
