"""Diversified and adaptive negative sampling by a two-way GAN, after DANS (Liu et al., 2024).

The method has three parts: a *two-way generator* makes negatives from the kept entity alone and from entity and
relation; *FiLM* adapts both to each entity and relation; a discriminator with an *auxiliary head* tells the two
pathways apart, so that they stay diverse. Half of the negatives are generated, in equal parts by the pathways, and half
are uniform. This is a re-implementation from a secondary summary of the paper and from the authors' published code,
which does not do what the paper says (its FiLM is never trained, its auxiliary loss is always zero, and the fakes of
one pathway are overwritten by those of the other). No line of it was taken over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

from class_resolver import HintOrType
from docdata import parse_docdata
from pykeen.sampling.filtering import Filterer
from pykeen.typing import MappedTriples, Target

from ..bank.decoder import Decoder
from ..engine.coupling import Coupling
from ..engine.curriculum import Curriculum
from ..engine.diversity import DEFAULT_MIN_DISTINCT
from ..generators.base import Generator
from ..generators.gan import WAYS, TwoWayGANGenerator, validate_distances, validate_ways
from .base import GeneratedNegativeSampler

__all__ = [
    "TwoWayGANNegativeSampler",
]


@parse_docdata
class TwoWayGANNegativeSampler(GeneratedNegativeSampler):
    """A sampler that generates negatives by a two-way generative adversarial network.

    Unlike PyKEEN's own samplers it makes 20 negatives for each positive, the number of the paper, where nothing else is
    asked for.

    ---
    name: Two-Way GAN (DANS)
    citation:
        author: Liu
        year: 2024
        link: https://arxiv.org/abs/2410.07592
    """

    generator_cls: ClassVar[type[Generator]] = TwoWayGANGenerator
    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **GeneratedNegativeSampler.hpo_default,
        "curriculum": {"type": "categorical", "choices": ["exponential", "linear", "constant", "reversed"]},
        "num_slots": {"type": int, "low": 4, "high": 7, "scale": "power_two"},  # [16, 128]
        "sigma": {"type": float, "low": 1e-3, "high": 1.0, "log": True},
        "film_weight": {"type": float, "low": 1e-4, "high": 1e2, "log": True},
        "pathway_weight": {"type": float, "low": 0.0, "high": 1.0, "q": 0.25},
        "conditional": {"type": bool},
        "generator_learning_rate": {"type": float, "low": 1e-4, "high": 1e-2, "log": True},
        "discriminator_learning_rate": {"type": float, "low": 1e-5, "high": 1e-2, "log": True},
        "discriminator_steps": {"type": int, "low": 1, "high": 10},
    }

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = 20,
        filtered: bool = False,
        filterer: HintOrType[Filterer] = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
        corruption_scheme: Collection[Target] | None = None,
        curriculum: HintOrType[Curriculum] = None,
        curriculum_kwargs: Mapping[str, Any] | None = None,
        targets: Sequence[float] = (0.2, 0.1),
        min_spread: float = 0.1,
        min_distinct: float = DEFAULT_MIN_DISTINCT,
        num_slots: int = 16,
        memory: float = 256.0,
        decoder: HintOrType[Decoder] = None,
        decoder_kwargs: Mapping[str, Any] | None = None,
        num_types: int | None = None,
        reference_kwargs: Mapping[str, Any] | None = None,
        fit_steps: int = 500,
        horizon: int | None = None,
        device: str | None = None,
        random_state: int | None = None,
        coupling: Coupling | None = None,
        ways: Sequence[str] = WAYS,
        way_shares: Sequence[float] | None = None,
        distances: Sequence[float] = (1.0, 0.5),
        sigma: float = 0.01,
        inverse: Literal["conjugate", "reciprocal"] = "conjugate",
        residual: bool = True,
        film: bool = True,
        film_weight: float = 1e-4,
        film_dim: int = 100,
        pathway_loss: bool = True,
        pathway_weight: float = 1.0,
        conditional: bool = False,
        generator_learning_rate: float = 1e-3,
        discriminator_learning_rate: float = 1e-4,
        discriminator_steps: int = 10,
        batch_size: int = 512,
        trained: bool = True,
    ) -> None:
        ways = validate_ways("ways", ways)
        distances = validate_distances("distances", distances)
        if len(targets) != len(distances):
            raise ValueError(
                f"targets={tuple(targets)} and distances={distances} differ in number; give one target for each "
                f"distance."
            )
        super().__init__(
            mapped_triples=mapped_triples,
            num_entities=num_entities,
            num_relations=num_relations,
            num_negs_per_pos=num_negs_per_pos,
            filtered=filtered,
            filterer=filterer,
            filterer_kwargs=filterer_kwargs,
            corruption_scheme=corruption_scheme,
            curriculum=curriculum,
            curriculum_kwargs=curriculum_kwargs,
            targets=targets,
            min_spread=min_spread,
            min_distinct=min_distinct,
            num_slots=num_slots,
            memory=memory,
            decoder=decoder,
            decoder_kwargs=decoder_kwargs,
            # which it does not use
            difficulty="constant",
            difficulty_kwargs=None,
            num_types=num_types,
            reference_kwargs=reference_kwargs,
            fit_steps=fit_steps,
            horizon=horizon,
            device=device,
            random_state=random_state,
            coupling=coupling,
            way_shares=way_shares,
            num_ways=len(ways),
            generator_options={
                "ways": ways,
                "distances": distances,
                "sigma": sigma,
                "inverse": inverse,
                "residual": residual,
                "film": film,
                "film_weight": film_weight,
                "film_dim": film_dim,
                "pathway_loss": pathway_loss,
                "pathway_weight": pathway_weight,
                "conditional": conditional,
                "generator_learning_rate": generator_learning_rate,
                "discriminator_learning_rate": discriminator_learning_rate,
                "discriminator_steps": discriminator_steps,
                "batch_size": batch_size,
                "trained": trained,
            },
        )
