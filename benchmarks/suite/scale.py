"""Scale: what a step costs, part by part, against the number of entities, on synthetic graphs.

Heads, relations and tails each follow the law of Zipf and Mandelbrot that fits FB15k-237: in relative ranks u, a share
of triples in proportion to (u + shift) ** -exponent. They are drawn independently, so that there are more distinct
queries than in real graphs, and a bank needs more room.
"""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from pykeen.pipeline import pipeline
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import MappedTriples
from pykeen.utils import resolve_device

from .recipes import Setting, experiment
from .rows import append, environment, load
from .training import Clock, EnoughError, empty_cache, quiet
from .turns import Turns, interleave
from .variants import available, merge

logger = logging.getLogger(__name__)

FILE = "scale.jsonl"
RECIPE = "fb15k237-complex"
#: Exponent and shift of heads, relations and tails of FB15k-237, by maximum likelihood
LAWS = ((0.749, 4.35e-3), (1.663, 5.68e-2), (0.814, 9.56e-5))
_NUM_RELATIONS = 237
_TRIPLES_PER_ENTITY = 5
_BATCH_SIZE = 512
_STEPS = 40


def synthetic_graph(num_entities: int, *, seed: int = 0) -> MappedTriples:
    """Draw a graph of distinct triples, in which every entity and relation occurs.

    :raises ValueError: if there are fewer entities than relations
    """
    if num_entities < _NUM_RELATIONS:
        raise ValueError(f"num_entities={num_entities} is too small; at least {_NUM_RELATIONS} are needed.")
    random = np.random.default_rng(seed)
    sizes = (num_entities, _NUM_RELATIONS, num_entities)
    # the entities that are frequent as heads are not those that are frequent as tails, and ids tell nothing of degrees
    names = [random.permutation(size) for size in sizes]
    number = _TRIPLES_PER_ENTITY * num_entities
    columns = []
    for (exponent, shift), size, name in zip(LAWS, sizes, names, strict=True):
        weights = ((np.arange(size) + 0.5) / size + shift) ** -exponent
        # once each, so that none of them is missing
        rest = random.choice(size, size=number - num_entities, p=weights / weights.sum())
        columns.append(name[np.concatenate([np.arange(num_entities) % size, rest])])
    triples = np.unique(np.stack(columns, axis=-1), axis=0)
    return torch.from_numpy(triples[random.permutation(len(triples))])


def steps(turns: Turns, *, num_entities: int, variant: str, threads: int) -> dict[str, Any]:
    """Take some steps in a process of its own, with an empty cache, so that whatever is made once is on the clock."""
    torch.set_num_threads(threads)
    quiet()
    changes = {"dataset_kwargs": {"create_inverse_triples": False}, "training_kwargs": {"batch_size": _BATCH_SIZE}}
    made = experiment(Setting(RECIPE, variant, 0, changes | {"negative_sampler_kwargs": {"corruption_scheme": None}}))
    options = {key: value for key, value in made["pipeline"].items() if not key.startswith("dataset")}
    triples = synthetic_graph(num_entities)
    factory = CoreTriplesFactory(triples, num_entities=num_entities, num_relations=_NUM_RELATIONS)
    clock = Clock(turns=turns, max_steps=_STEPS, exact=True)
    training = options["training_kwargs"]
    hints = training.get("callbacks", [])
    training |= {"callbacks": [*([hints] if isinstance(hints, str) else hints), clock], "use_tqdm": False}
    with empty_cache():
        try:
            pipeline(**options, training=factory, testing=factory)
        except EnoughError:
            logger.debug("%d steps are enough", _STEPS)
    row = clock.row()
    parts = {part: seconds / _STEPS for part, seconds in row["parts"].items() if part != "setup"}
    return {
        "num_entities": num_entities,
        "num_triples": len(triples),
        "variant": variant,
        "setup_seconds": row["parts"]["setup"],
        "step": parts,
        "peak_memory_mib": row["peak_memory_mib"],
        **{key: made["metadata"][key] for key in ("digest",)},
        **environment(resolve_device()),
    }


def execute(folder: pathlib.Path, *, sizes: Iterable[int], variants: Sequence[str]) -> int:
    """Measure what is not there yet, the variants of one size in turns."""
    count = 0
    for size in sizes:
        done = {row["variant"] for row in load(folder / FILE) if row["num_entities"] == size}
        names = available(variants)
        if set(names) <= done:
            continue
        common = {"num_entities": size, "threads": torch.get_num_threads()}
        for row in interleave(steps, {name: merge(common, {"variant": name}) for name in names}).values():
            append(folder / FILE, row)
            logger.info("%d entities, %s: %.1f ms a step", size, row["variant"], 1e3 * sum(row["step"].values()))
            count += 1
    return count


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Fit a power law, by least squares of logarithms, and tell its exponent."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
