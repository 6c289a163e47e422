"""Difficulty-aware conditional diffusion, after DANS-KGC (Li & Huang, 2025).

The method has three parts: the *difficulty* of each entity modulates how much noise it gets; a *conditional diffusion*
makes negatives at four timesteps, four bands of hardness; a *curriculum* shifts from easy to hard while the model
trains. This is a re-implementation from the paper's abstract and a secondary summary: no code was published, and most
formulas are our choice (each module says which).
"""

from __future__ import annotations

from typing import Any

from docdata import parse_docdata

from .base import GeneratedNegativeSampler

__all__ = [
    "DiffusionAdaptiveNegativeSampler",
]


@parse_docdata
class DiffusionAdaptiveNegativeSampler(GeneratedNegativeSampler):
    """A sampler that generates negatives by difficulty-aware conditional diffusion, known as "dans_kgc".

    It is :class:`GeneratedNegativeSampler` with the generator ``"diffusion"``, whose options are those of
    :class:`pykeen_dans.generators.diffusion.DiffusionGenerator`. The ablations of the paper are

    .. code-block:: python

        negative_sampler_kwargs = dict(generator_kwargs=dict(difficulty="constant"))  # w/o DAM
        negative_sampler_kwargs = dict(generator_kwargs=dict(conditioned=False))  # w/o CCD
        negative_sampler_kwargs = dict(curriculum="constant")  # w/o DTM

    :param kwargs: as for :class:`GeneratedNegativeSampler`

    ---
    name: Diffusion Adaptive (DANS-KGC)
    citation:
        author: Li
        year: 2025
        link: https://arxiv.org/abs/2511.07901
    """

    def __init__(self, **kwargs: Any) -> None:
        """Initialise the sampler."""
        super().__init__(**{"generator": "diffusion", **kwargs})
