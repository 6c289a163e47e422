"""What each tier runs: part, recipes, variants, seeds and further options; what is there already is skipped.

``smoke`` shows that everything works; its figures mean nothing. ``small`` takes an hour on two cores or so. ``full``
has most rows of the page of results, and takes days; ``gpu`` has those worth eight minutes of a GPU.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from typing import Any

from .data import YAGO
from .quality import PARTS, plan
from .variants import VARIANTS

Entry = tuple[str, Iterable[str], Iterable[str], Iterable[int], dict[str, Any]]

#: What a user chooses from
LOOPS = ("basic", "basic-64", "1vsall", "shared-256", "shared-1024", "shared-all", "loop-dans_kgc", "loop-dans")
#: What is put on top of a pool, which is the first one
ON_TOP = (
    *("shared-256", "shared-1024", "loop-near", "loop-dans-near", "loop-near-relation", "loop-vectors"),
    "loop-dans-vectors",
    *(f"loop-{name}-ids" for name in ("prior", "ridge", "dans_kgc", "dans")),
    *("loop-prior-frozen", "loop-prior", "loop-dans_kgc", "loop-dans"),
)
DRAWN = ("basic", "bernoulli", "pseudotyped", "dans_kgc", "dans", "dhns")
MODULES = ("basic", "dans_kgc", "no-dam", "no-ccd", "no-dtm", "dans_kgc-ridge", "dans_kgc-prior", "dans_kgc-uniform")
CURRICULA = ("slow", "aggressive", "no-dtm", "reversed")
GAN = ("basic", "dans", "entity-way", "relation-way", "no-film", "one-head", "dans-untrained", "vectors")
HIERARCHY = tuple(name for name in VARIANTS if name == "basic" or "reading" in name or name.startswith("dhns"))
_THREE = ("family-complex", "umls-complex", "codexsmall-complex")
_SEEDS = (1, 2, 3)


def _sweeps(*names: str) -> list[str]:
    return [name for name in VARIANTS if name.rpartition("-")[0] in names]


SMOKE: list[Entry] = [
    ("quality", ["nations-complex"], ["bernoulli", *LOOPS], [1], {"epochs": 2}),
    ("quality", ["nations-rotate", "nations-distmult"], ["basic", "dans", "dhns"], [1], {"epochs": 2}),
    ("race", ["nations-complex"], ["basic", "shared-256", "dans_kgc"], [1], {"epochs": 3}),
    ("trials", ["nations-complex"], ["shared-256", "loop-near", "loop-prior-frozen"], [1], {"epochs": 2}),
    ("curves", ["nations-complex"], ["basic", "shared-256"], [1], {"epochs": 3}),
    ("cost", ["nations-complex"], ["basic", "shared-256"], [1], {"epochs": 2}),
    ("scale", ["synthetic500-complex", "synthetic1000-complex"], ["basic", "shared-64"], [1], {}),
    ("negatives", ["nations-complex"], ["basic", "pseudotyped"], [1], {"epochs": 1}),
]
SMALL: list[Entry] = [
    ("race", ["umls-complex", "codexsmall-complex"], LOOPS, [1], {}),
    ("quality", ["umls-complex"], ["basic", "dans_kgc", "dans_kgc-untrained", "dans", "dhns"], [1], {}),
    ("cost", ["codexsmall-complex"], LOOPS, [1], {"epochs": 2}),
    ("scale", ["synthetic1000-complex", "synthetic10000-complex"], ["basic", "shared-256", "shared-1024"], [1], {}),
]
FULL: list[Entry] = [
    *SMALL,
    ("race", [f"{name}-complex" for name in ("family", "umls", "kinships", "codexsmall")], LOOPS, range(1, 6), {}),
    ("race", ["wn18rr-complex", "fb15k237-complex", "nell995-complex"], LOOPS, _SEEDS, {}),
    ("race", ["codexsmall-rotate", "fb15k237-rotate"], LOOPS, _SEEDS[:2], {}),
    ("trials", [f"{name}-complex" for name in ("family", "umls", "kinships", "codexsmall")], ON_TOP, [1], {}),
    ("trials", [f"{name}-complex" for name in ("wn18rr", "fb15k237", "nell995", YAGO)], ON_TOP, [1], {}),
    ("curves", ["fb15k237-complex", f"{YAGO}-complex"], LOOPS, [1], {}),
    ("quality", _THREE, [*MODULES, "masked", "reference-1"], _SEEDS, {}),
    ("quality", _THREE[::2], CURRICULA, _SEEDS, {}),
    ("quality", _THREE[:1], [*_sweeps("mu"), "not-steered"], _SEEDS, {}),
    ("quality", _THREE[1:2], _sweeps("lambda", "eta", "T", "beta_global", "share"), _SEEDS, {}),
    ("quality", _THREE[1:2], _sweeps("Ns", "film_weight", "steps"), _SEEDS, {}),
    (
        "quality",
        [f"{name}-{model}-dans" for name in ("umls", "wn18rr") for model in ("distmult", "complex")],
        GAN,
        _SEEDS,
        {},
    ),
    ("quality", ["umls-rgcn"], ["basic", "dans"], _SEEDS, {}),
    ("quality", ["mkgw-rotate", "db15k-rotate"], HIERARCHY, _SEEDS, {}),
    ("negatives", ["umls-complex", "codexsmall-complex", "fb15k237-complex"], DRAWN, [1], {}),
    ("cost", ["fb15k237-complex"], LOOPS, [1], {"epochs": 1}),
    ("scale", ["synthetic100000-complex", "synthetic1000000-complex"], ["basic", *LOOPS[3:5], LOOPS[6]], [1], {}),
]
GPU: list[Entry] = [
    ("cost", ["fb15k237-complex"], LOOPS[:5], [1], {"epochs": 1}),
    ("curves", ["fb15k237-complex"], LOOPS[:5], [1], {"overrides": {"model_kwargs": {"embedding_dim": 256}}}),
    ("scale", [f"synthetic{10**power}-complex" for power in (4, 5, 6)], ["basic", "shared-1024"], [1], {}),
]
TIERS = {"smoke": SMOKE, "small": SMALL, "full": FULL, "gpu": GPU}


def execute(tier: str, folder: pathlib.Path) -> int:
    """Run a tier, and tell how many rows are new."""
    return sum(
        PARTS[part].execute(plan([*recipes], variants, seeds, **options), folder / f"{part}.jsonl")
        for part, recipes, variants, seeds, options in TIERS[tier]
    )
