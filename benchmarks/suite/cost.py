"""What negatives cost: the hot path of drawing them, and a check of its ratios; steps by part are those of races.

Times differ from machine to machine, and ratios to the basic sampler in the same process much less. A ratio that is
larger than the kept one by more than the tolerance is a regression.
"""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pykeen.sampling import NegativeSampler, negative_sampler_resolver
from pykeen.typing import MappedTriples
from pykeen.utils import set_random_seed

from pykeen_dans.engine.coupling import Coupling
from pykeen_dans.inspection.diagnostics import as_trained
from pykeen_dans.sampling.base import GeneratedNegativeSampler

from . import data
from .rows import environment

#: The result files: the hot path, and steps by part
HOT_PATH, STEPS = "hot_path.jsonl", "steps.jsonl"
SAMPLERS = ("basic", "bernoulli", "pseudotyped", "diffusionadaptive", "twowaygan", "hierarchical")
#: The samplers of PyKEEN, whose speed is not ours
_OTHERS = ("basic", "bernoulli", "pseudotyped")
#: The ratios that are kept with the source
BASELINE = pathlib.Path(__file__).parents[1].resolve() / "baseline.json"
#: How much larger a ratio may be, as a share of the kept one. Ratios of a busy machine differ by a third.
_TOLERANCE = 0.5


def make_sampler(name: str, triples: MappedTriples, number: int, **kwargs: Any) -> NegativeSampler:
    """Make a sampler as a training would, with a full bank of random ids where it has one."""
    cls = negative_sampler_resolver.lookup(name)
    if issubclass(cls, GeneratedNegativeSampler):
        # its share of generated negatives is that at the beginning of a training
        kwargs["coupling"] = Coupling()
    sampler = cls(mapped_triples=triples, num_negs_per_pos=number, **kwargs)
    if isinstance(sampler, GeneratedNegativeSampler):
        sampler.engine.bank.ids.random_(sampler.num_entities)
    return sampler


def _nanoseconds(sampler: NegativeSampler, batch: MappedTriples, *, repeats: int = 10) -> float:
    """Time one negative, in processor time, which leaves out whatever else the machine does."""
    started = time.process_time()
    for _ in range(repeats):
        sampler.corrupt_batch(batch)
    return (time.process_time() - started) / repeats / len(batch) / sampler.num_negs_per_pos * 1e9


def hot_path(
    dataset: str, *, batch_sizes: Sequence[int], numbers: Sequence[int], rounds: int = 20
) -> Iterator[dict[str, Any]]:
    """Compare the hot paths, in turn and by the best round of each, so that other work on the machine hits neither."""
    set_random_seed(0)
    training = data.load(dataset).training
    triples = as_trained(training)
    sizes = {"num_entities": training.num_entities, "num_relations": training.num_relations}
    for number in numbers:
        samplers = {name: make_sampler(name, triples, number, **sizes) for name in SAMPLERS}
        for size in batch_sizes:
            best = dict.fromkeys(samplers, float("inf"))
            for _ in range(rounds):
                batch = triples[torch.randperm(len(triples))[:size]]
                for name, sampler in samplers.items():
                    sampler.corrupt_batch(batch)
                    best[name] = min(best[name], _nanoseconds(sampler, batch))
            for name, figure in best.items():
                setting = {"dataset": dataset, "batch_size": size, "num_negatives": number}
                yield {
                    **setting,
                    "sampler": name,
                    "nanoseconds": figure,
                    "ratio": figure / best["basic"],
                    **environment("cpu"),
                }


def ratios(rows: Sequence[Mapping[str, Any]], micro: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Read ratios from rows of the hot path, and from the report of pytest-benchmark, the last ones of each name."""
    found = {
        f"hot path, {row['dataset']}, B={row['batch_size']}, N={row['num_negatives']}, {row['sampler']}": row["ratio"]
        for row in rows
    }
    least = {
        (entry["group"], entry["extra_info"]["sampler"]): entry["stats"]["min"]
        for entry in (micro or {"benchmarks": ()})["benchmarks"]
    }
    found |= {f"micro, {group}, {name}": value / least[group, "basic"] for (group, name), value in least.items()}
    return {name: value for name, value in found.items() if not name.endswith(_OTHERS)}


def load_baseline(path: pathlib.Path = BASELINE) -> dict[str, float]:
    """Load the ratios that were kept."""
    kept: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))["ratios"]
    return kept


def write_baseline(measured: Mapping[str, float], path: pathlib.Path = BASELINE) -> None:
    """Keep ratios, and no others."""
    kept = {name: round(value, 3) for name, value in sorted(measured.items())}
    path.write_text(json.dumps({"ratios": kept}, indent=2) + "\n", encoding="utf-8")


def regressions(measured: Mapping[str, float], kept: Mapping[str, float]) -> list[str]:
    """Tell of each ratio that is worse than the kept one.

    :raises ValueError: if nothing that was kept was measured
    """
    common = sorted(set(measured) & set(kept))
    if not common:
        raise ValueError(f"measured={sorted(measured)} has none of the ratios that were kept, {sorted(kept)}.")
    return [
        f"{name}: {measured[name]:.2f} times basic, where {kept[name]:.2f} was kept and {limit:.2f} is tolerated."
        for name in common
        if measured[name] > (limit := kept[name] * (1 + _TOLERANCE))
    ]
