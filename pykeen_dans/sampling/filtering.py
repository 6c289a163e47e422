"""An exact filter for known positive triples, for PyKEEN's filterer resolver.

PyKEEN offers a choice between a Bloom filter, which is fast and drops a few true negatives, and a Python set, which is
exact and slow. :class:`ExactFilterer` is exact, and its speed is that of a binary search in a sorted tensor. It is
available by its name:

.. code-block:: python

    from pykeen.pipeline import pipeline

    pipeline(
        dataset="CoDExSmall",
        model="ComplEx",
        negative_sampler="basic",
        negative_sampler_kwargs=dict(filtered=True, filterer="exact"),
    )
"""

from __future__ import annotations

import torch
from docdata import parse_docdata
from pykeen.sampling.filtering import Filterer
from pykeen.typing import BoolTensor, LongTensor, MappedTriples

__all__ = [
    "ExactFilterer",
]


@parse_docdata
class ExactFilterer(Filterer):
    r"""An exact filterer which looks triples up in a sorted tensor of integer keys.

    A triple $(h, r, t)$ is packed into the integer $(h \cdot |R| + r) \cdot |E| + t$. The keys of the known triples
    are sorted once, and a batch is answered by a binary search. Memory is eight bytes for each known triple.

    ---
    name: Exact
    """

    #: The sorted keys of the known triples, shape: (num_known,)
    keys: LongTensor

    #: The exclusive upper limits of the known head, relation and tail ids, shape: (3,)
    limits: LongTensor

    def __init__(self, mapped_triples: MappedTriples) -> None:
        """Initialize the filterer.

        :param mapped_triples: shape: (n, 3)
            The ID-based known triples. There may be none.

        :raises ValueError: if the triples do not have three columns, have negative ids, or have ids so large that a
            triple does not fit into one 64 bit integer.
        """
        super().__init__()
        if mapped_triples.ndim != 2 or mapped_triples.shape[-1] != 3:
            raise ValueError(
                f"mapped_triples has shape {tuple(mapped_triples.shape)}, but needs shape (n, 3): "
                f"pass the ID-based triples, e.g. training.mapped_triples."
            )
        triples = mapped_triples.to(dtype=torch.long)
        if len(triples) and triples.min() < 0:
            raise ValueError(
                f"mapped_triples has the negative id {int(triples.min())}: remove the triples which could not be "
                f"mapped to ids."
            )
        limits = triples.amax(dim=0) + 1 if len(triples) else triples.new_zeros(3)
        num_heads, num_relations, num_tails = limits.tolist()
        if num_heads * num_relations * num_tails > torch.iinfo(torch.long).max:
            raise ValueError(
                f"mapped_triples has ids up to {num_heads - 1} (head), {num_relations - 1} (relation) and "
                f"{num_tails - 1} (tail); their {num_heads} x {num_relations} x {num_tails} combinations do not fit "
                f"into 64 bit keys. Map the labels to consecutive ids, or use filterer='python-set'."
            )
        self.register_buffer(name="limits", tensor=limits)
        self.register_buffer(name="keys", tensor=torch.unique(self._pack(triples), sorted=True))

    def _pack(self, triples: LongTensor) -> LongTensor:
        """Pack triples, shape: ``(*batch_dims, 3)``, whose ids are below the limits, into keys, shape: batch_dims."""
        heads, relations, tails = triples.unbind(dim=-1)
        return (heads * self.limits[1] + relations) * self.limits[2] + tails

    # docstr-coverage: inherited
    def contains(self, batch: MappedTriples) -> BoolTensor:  # noqa: D102
        if not len(self.keys):
            return torch.zeros(batch.shape[:-1], dtype=torch.bool, device=batch.device)
        device, batch = batch.device, batch.to(device=self.keys.device, dtype=torch.long)
        # An id beyond the known ones (an entity or relation that training lacks) would take the key of another triple.
        known = ((batch >= 0) & (batch < self.limits)).all(dim=-1)
        keys = self._pack(batch)
        index = torch.searchsorted(self.keys, keys).clamp_(max=len(self.keys) - 1)
        return ((self.keys[index] == keys) & known).to(device)
