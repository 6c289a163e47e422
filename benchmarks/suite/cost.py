"""The hot path of drawing negatives, as ratios to the basic sampler in turns with it, and a check of these.

Times differ from machine to machine and from one minute to the next, and such ratios much less: by 5 % in four runs on
a busy machine. One that is larger than the kept one by more than the tolerance is a regression.
"""

from __future__ import annotations

import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import pytest
from pykeen.sampling import NegativeSampler, negative_sampler_resolver
from pykeen.triples import CoreTriplesFactory

from pykeen_dans.engine.coupling import Coupling
from pykeen_dans.sampling.base import GeneratedNegativeSampler

SAMPLERS = ("basic", "bernoulli", "pseudotyped", "diffusionadaptive", "twowaygan", "hierarchical")
_HERE = pathlib.Path(__file__).parents[1].resolve()
#: The ratios that are kept with the source
BASELINE = _HERE / "baseline.json"
#: How much larger a ratio may be, as a share of the kept one, since other processors have other ratios
_TOLERANCE = 0.5


def make_sampler(name: str, training: CoreTriplesFactory, number: int) -> NegativeSampler:
    """Make a sampler as a training would, with a full bank of random ids where it has one."""
    cls = negative_sampler_resolver.lookup(name)
    # its share of generated negatives is that at the beginning of a training
    kwargs: dict[str, Any] = {"coupling": Coupling()} if issubclass(cls, GeneratedNegativeSampler) else {}
    kwargs |= {"num_entities": training.num_entities, "num_relations": training.num_relations}
    sampler = cls(mapped_triples=training.mapped_triples, num_negs_per_pos=number, **kwargs)
    if isinstance(sampler, GeneratedNegativeSampler):
        sampler.engine.bank.ids.random_(training.num_entities)
    return sampler


def hot_path() -> dict[str, float]:
    """Run the micro benchmarks, and tell the ratio of each sampler of ours.

    :raises RuntimeError: if they fail
    """
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, "micro.json")
        options = ["-q", "-p", "no:cacheprovider", "--benchmark-disable-gc", "--benchmark-quiet"]
        if pytest.main([str(_HERE / "micro"), *options, f"--benchmark-json={report}"]) != pytest.ExitCode.OK:
            raise RuntimeError(f"The micro benchmarks in {_HERE / 'micro'} have failed.")
        return ratios(json.loads(report.read_text()))


def ratios(report: Mapping[str, Any]) -> dict[str, float]:
    """Read from pytest-benchmark's report how many times as long as basic each sampler of ours takes."""
    made = [(entry["group"], entry["extra_info"]) for entry in report["benchmarks"]]
    return {f"{group}, {info['sampler']}": info["ratio"] for group, info in made if info["sampler"] in SAMPLERS[3:]}


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
