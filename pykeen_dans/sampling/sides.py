"""Which sides of positives are replaced, and in which order."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from pykeen.typing import LABEL_HEAD, LABEL_TAIL, LongTensor, Target

from ..graph import HEAD, TAIL
from ..utils.validation import validate_sequence

__all__ = [
    "sides_in_turn",
    "validate_corruption_scheme",
]

_SIDES: Mapping[str, int] = {LABEL_HEAD: HEAD, LABEL_TAIL: TAIL}


def sides_in_turn(shape: tuple[int, int], num_sides: int) -> LongTensor:
    """Tell which side each negative replaces; neighbours differ.

    :param shape: the numbers of positives, and of negatives of each
    :param num_sides: the number of sides that are replaced

    :returns: the position of the side among these, shape: shape
    """
    return (torch.arange(shape[0])[:, None] + torch.arange(shape[1])) % num_sides


def validate_corruption_scheme(scheme: Collection[Target] | None) -> tuple[int, ...]:
    """Translate a corruption scheme into sides.

    :param scheme: the names of the sides, None for both

    :returns: the sides, among :data:`~pykeen_dans.graph.queries.HEAD` and :data:`~pykeen_dans.graph.queries.TAIL`

    :raises ValueError: if it names anything else, or a side twice
    """
    if scheme is None:
        return (HEAD, TAIL)
    names = (scheme,) if isinstance(scheme, str) else validate_sequence("corruption_scheme", scheme)
    if not names or any(target not in tuple(_SIDES) or names.count(target) > 1 for target in names):
        raise ValueError(
            f"corruption_scheme={scheme!r} must name 'head', 'tail', or both, once each; relations are not generated."
        )
    return tuple(_SIDES[target] for target in names)
