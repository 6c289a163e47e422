"""Records of trainings that nobody has trained."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pykeen_dans.reporting.records import Record

BASIC = Record(
    label="basic",
    model="ComplEx",
    seed=0,
    digest="a" * 64,
    dataset={"name": "UMLS", "num_entities": 135, "num_relations": 46, "num_triples": 5216},
    pipeline={"model": "ComplEx", "loss": "nssa"},
    recipe="umls-complex",
    metrics={"mrr": 0.5, "hits_at_1": 0.4, "hits_at_3": 0.5, "hits_at_10": 0.6},
    curve={"epochs": [1, 2, 3], "seconds": [1.0, 2.0, 3.0], "values": [0.1, 0.3, 0.4], "total_seconds": 3.5},
    negatives=[{"source": "basic", "band": None, "count": 512, "false_validation": 0.01, "false_testing": 0.02}],
)


def basic(seed: int = 0, mrr: float = 0.5, **kwargs: Any) -> Record:
    """Make a record of uniform negatives."""
    metrics = {**BASIC.metrics, "mrr": mrr}
    return dataclasses.replace(BASIC, seed=seed, metrics=metrics, **kwargs)


def generated(seed: int = 0, mrr: float = 0.6, label: str = "dans-kgc", **kwargs: Any) -> Record:
    """Make a record of generated negatives, which has all that a page can show."""
    epochs = [1, 2, 3]
    tracked = {f"negatives.percentile_{band}": dict.fromkeys(epochs, 0.3 - 0.1 * band) for band in range(2)}
    tracked |= {
        "negatives.noise_error": {each: 0.5 / each for each in epochs},
        "negatives.ridge_error": dict.fromkeys(epochs, 0.5),
    }
    points = [[math.cos(angle), math.sin(angle)] for angle in range(12)]
    return basic(
        seed,
        mrr,
        **{
            "label": label,
            "digest": "b" * 64,
            "tracked": tracked,
            "negatives": [
                *BASIC.negatives,
                {"source": "own", "band": 0, "count": 99, "false_validation": 0.03, "false_testing": None},
            ],
            "curriculum": {
                "epochs": [0, *epochs],
                "weights": [[1 - each / 4, each / 4] for each in range(4)],
                "targets": [0.28, 0.14],
                "sources": ["generated"],
            },
            "points": {
                "relation": "affects",
                "explained": [0.4, 0.2],
                "kinds": {"true": points, "uniform": points[:5], "generated": points[5:]},
            },
            "difficulty": {"degree": [1, 10, 100], "difficulty": [0.9, 0.5, 0.1]},
            **kwargs,
        },
    )
