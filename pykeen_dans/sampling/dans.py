"""Diversified and adaptive negative sampling by a two-way GAN, after DANS (Liu et al., 2024).

The method has three parts: a *two-way generator* makes negatives from the kept entity alone and from entity and
relation; *FiLM* adapts both to each entity and relation; a discriminator with an *auxiliary head* tells the two
pathways apart, so that they stay diverse. Half of the negatives are generated, in equal parts by the pathways, and half
are uniform. This is a re-implementation from a secondary summary of the paper and from the authors' published code,
which does not do what the paper says (its FiLM is never trained, its auxiliary loss is always zero, and the fakes of
one pathway are overwritten by those of the other). No line of it was taken over.
"""

from __future__ import annotations

from typing import Any

from docdata import parse_docdata

from .base import GeneratedNegativeSampler

__all__ = [
    "TwoWayGANNegativeSampler",
]


@parse_docdata
class TwoWayGANNegativeSampler(GeneratedNegativeSampler):
    """A sampler that generates negatives by a two-way generative adversarial network, known as "dans".

    It is :class:`GeneratedNegativeSampler` with the generator ``"two-way-gan"``, whose options are those of
    :class:`pykeen_dans.generators.gan.TwoWayGANGenerator`. Unlike PyKEEN's own samplers it makes 20 negatives for each
    positive, half of them generated, as in the paper, where nothing else is asked for; and it has two hardness bands.
    The ablations of the paper are

    .. code-block:: python

        negative_sampler_kwargs = dict(generator_kwargs=dict(pathways="entity"))  # one way
        negative_sampler_kwargs = dict(generator_kwargs=dict(film=False))
        negative_sampler_kwargs = dict(generator_kwargs=dict(two_heads=False))

    :param kwargs: as for :class:`GeneratedNegativeSampler`

    ---
    name: Two-Way GAN (DANS)
    citation:
        author: Liu
        year: 2024
        link: https://arxiv.org/abs/2410.07592
    """

    def __init__(self, **kwargs: Any) -> None:
        """Initialise the sampler."""
        defaults = {"generator": "two-way-gan", "num_negs_per_pos": 20, "share": 0.5, "targets": (0.2, 0.1)}
        super().__init__(**{**defaults, **kwargs})
