"""What each tier runs.

``smoke`` shows in under three minutes that everything works; its figures mean nothing. ``small`` is meant for an hour
on two cores, and ``full`` for a GPU, though it needs none. ``full`` includes the rows of ``small``, and finds them in
the result files.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .configurations import DATASETS, MODELS, Setting
from .curves import REFERENCE, Race
from .quality import plan
from .scale import SAMPLERS, YAGO
from .variants import VARIANTS

__all__ = [
    "TIERS",
    "Tier",
]

#: The samplers of the quality matrix
MATRIX = ("basic", "bernoulli", "pseudotyped", "alone", "live", "dans", "dhns")
#: Controls and ablations, beside which the tables put the full sampler
CONTROLS = tuple(name for name, variant in VARIANTS.items() if variant.kind == "control")
ABLATIONS = tuple(name for name, variant in VARIANTS.items() if variant.kind == "ablation")
#: Those of dans are run with its own recipes, which have as many negatives as its latent mode with its vectors
_OF_DANS = tuple(name for name in (*CONTROLS, *ABLATIONS) if name.startswith("dans"))
_OF_OTHERS = tuple(name for name in (*CONTROLS, *ABLATIONS) if name not in _OF_DANS)
#: The data sets and models of the recipes of dans
_DANS_RECIPES = tuple(
    f"{dataset}-{model}-dans"
    for dataset in ("umls", "codexsmall", "wn18rr", "nell995")
    for model in ("complex", "rotate", "distmult")
)
_RACERS = (REFERENCE, "basic", "live", "dans", "dhns")


@dataclasses.dataclass(frozen=True)
class Tier:
    """One tier.

    :param quality: lists the trainings of the quality matrix, with controls and ablations
    :param races: the runs of time to quality
    :param cost: what :func:`suite.cost.execute` is given
    :param graphs: the sizes of synthetic graphs, and the names of real ones
    :param scale_variants: the variants that are trained on these
    """

    quality: Callable[[], Iterator[Setting]]
    races: tuple[Race, ...]
    cost: Mapping[str, Any]
    graphs: Sequence[int | str]
    scale_variants: Sequence[str] = SAMPLERS


def _smoke() -> Iterator[Setting]:
    """Train each sampler a little, and see each loss and model at least once."""
    yield from plan(["nations-complex"], [*MATRIX, "noise"], [1], epochs=2)
    yield from plan(["nations-transe", "nations-distmult", "nations-rotate"], ["basic", "live"], [1], epochs=2)
    yield from plan(["nations-complex"], ["basic", "live"], [1], losses=["softplus", "crossentropy"], epochs=2)
    yield from plan(["nations-complex"], ["basic", "live"], [1], filtered=[True], epochs=2)


def _small() -> Iterator[Setting]:
    """Measure two models on small graphs, and the rest on the smallest one."""
    yield from plan(["umls-complex", "kinships-rotate", "codexsmall-complex"], ["basic", "live", "dans", "dhns"], [1])
    yield from plan(["umls-complex"], [*MATRIX, "noise", "dans-noise", "dhns-noise"], [1])
    yield from plan(["umls-complex-dans"], ["basic", "dans", "shipped"], [1])
    yield from plan(["nations-complex", "nations-rotate"], MATRIX, [1])
    yield from plan(["nations-transe", "nations-distmult"], ["basic", "live", "dans", "dhns"], [1])
    yield from plan(
        ["nations-complex"], ["basic", "live"], [1], losses=["nssa", "softplus", "crossentropy"], filtered=[False, True]
    )


def _full() -> Iterator[Setting]:
    """Measure everything, the main rows first."""
    seeds = range(1, 6)
    recipes = [f"{dataset}-{model}" for dataset, model in itertools.product(DATASETS, MODELS)]
    shipped = [f"{dataset}-{model}" for dataset in DATASETS for model in ("complex", "rotate")]
    yield from _small()
    yield from plan(shipped, ["basic", "live", "dans", "dhns"], seeds)
    yield from plan(_DANS_RECIPES, ["basic", "dans", "shipped"], seeds)
    yield from plan(["umls-complex", "codexsmall-complex"], [*_OF_OTHERS, "oracle", REFERENCE], seeds)
    yield from plan(["umls-complex-dans", "codexsmall-complex-dans"], ["dans-latent", *_OF_DANS], seeds)
    yield from plan(recipes, MATRIX, seeds[:3])
    yield from plan(recipes, MATRIX, seeds[:1], losses=["nssa", "softplus", "crossentropy"], filtered=[False, True])


_SMALL_RACES = (Race("umls-complex", _RACERS, 1, factors=(1, 2)), Race("nations-rotate", _RACERS, 1, factors=(1,)))

TIERS: dict[str, Tier] = {
    "smoke": Tier(
        quality=_smoke,
        races=(Race("nations-complex", _RACERS, 1, factors=(1,), epochs=3),),
        cost={
            "dataset": "nations",
            "batch_sizes": (256,),
            "numbers": (8, 32),
            "rounds": 10,
            "trainings": {"nations-complex": 3},
            "number": 32,
            "variants": ("live",),
        },
        graphs=(1_000, 2_000, 4_000),
        scale_variants=("basic", "live"),
    ),
    "small": Tier(
        quality=_small,
        races=_SMALL_RACES,
        cost={
            "dataset": "codexsmall",
            "batch_sizes": (128, 512, 2048),
            "numbers": (1, 8, 32, 64),
            "rounds": 20,
            "trainings": {"umls-complex": 8, "codexsmall-complex": 4},
            "number": 32,
            "variants": ("live", "dans", "dhns"),
        },
        graphs=(10_000, 30_000, 100_000),
    ),
    "full": Tier(
        quality=_full,
        races=(
            *_SMALL_RACES,
            *(
                Race(f"{dataset}-{model}", _RACERS, seed, factors=(1, 2))
                for seed in (1, 2, 3)
                for model in ("complex", "rotate")
                for dataset in DATASETS
            ),
        ),
        cost={
            "dataset": "fb15k237",
            "batch_sizes": (128, 512, 2048, 8192),
            "numbers": (1, 8, 32, 64, 256),
            "rounds": 30,
            "trainings": {"umls-complex": 8, "codexsmall-complex": 4, "wn18rr-rotate": 4, "fb15k237-rotate": 4},
            "number": 32,
            "variants": ("alone", "live", "dans", "dhns"),
        },
        graphs=(10_000, 30_000, 100_000, YAGO, 1_000_000, 10_000_000),
    ),
}
