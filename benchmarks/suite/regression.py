"""A check for regressions: ratios to the basic sampler, measured in one process, against ratios that were kept.

Times differ from machine to machine, and ratios much less. A ratio that is larger than the kept one by more than the
tolerance is a regression; a smaller one is none. What was not measured is no regression either, but at least one ratio
has to be there.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = [
    "BASELINE",
    "compare",
    "load_baseline",
    "ratios_of_costs",
    "ratios_of_micro",
    "write_baseline",
]

#: The ratios that are kept with the source
BASELINE = pathlib.Path(__file__).parent.parent.resolve().joinpath("baseline.json")
#: How much larger a ratio may be, as a share of the kept one. Ratios of a busy machine differ by a third.
TOLERANCE = 0.5
#: The samplers of PyKEEN, whose speed is not ours
_OTHERS = ("basic", "bernoulli", "pseudotyped")
#: What is compared. The rest is too short, or depends on the machine too much.
_COMPARED = ("hot path",)


def ratios_of_costs(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Read ratios from cost rows.

    :param rows: the rows; of several with one name, the last counts

    :returns: name -> ratio
    """
    return {
        f"{row['what']}: {row['setting']}, {row.get('sampler', 'live')}": row["ratio"]
        for row in rows
        if row["what"].startswith(_COMPARED) and row.get("sampler") not in _OTHERS
    }


def ratios_of_micro(report: Mapping[str, Any]) -> dict[str, float]:
    """Read ratios from the report of pytest-benchmark.

    :param report: its JSON, see ``pytest --benchmark-json``

    :returns: name -> the least time of a sampler, as a multiple of that of basic in the same group
    """
    groups: dict[str, dict[str, float]] = {}
    for benchmark in report["benchmarks"]:
        groups.setdefault(benchmark["group"], {})[benchmark["extra_info"]["sampler"]] = benchmark["stats"]["min"]
    return {
        f"micro, {group}, {sampler}": least / samplers["basic"]
        for group, samplers in groups.items()
        for sampler, least in samplers.items()
        if sampler not in _OTHERS
    }


def load_baseline(path: pathlib.Path = BASELINE) -> dict[str, float]:
    """Load the ratios that were kept.

    :param path: the file

    :returns: name -> ratio
    """
    ratios: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))["ratios"]
    return ratios


def write_baseline(ratios: Mapping[str, float], path: pathlib.Path = BASELINE) -> None:
    """Keep ratios, beside those of other names that were kept before.

    :param ratios: name -> ratio
    :param path: the file
    """
    kept = load_baseline(path) if path.is_file() else {}
    kept.update({name: round(ratio, 3) for name, ratio in ratios.items()})
    path.write_text(json.dumps({"ratios": dict(sorted(kept.items()))}, indent=2) + "\n", encoding="utf-8")


def compare(measured: Mapping[str, float], kept: Mapping[str, float], *, tolerance: float = TOLERANCE) -> list[str]:
    """Look for regressions.

    :param measured: name -> ratio
    :param kept: name -> the ratio that was kept
    :param tolerance: how much larger a ratio may be, as a share of the kept one

    :returns: a sentence for each regression

    :raises ValueError: if nothing that was kept was measured
    """
    common = sorted(set(measured) & set(kept))
    if not common:
        raise ValueError(
            f"measured={sorted(measured)} has none of the ratios that were kept, {sorted(kept)}; measure them, or "
            f"write a new baseline."
        )
    return [
        f"{name}: {measured[name]:.2f} times basic, where {kept[name]:.2f} was kept and {limit:.2f} is tolerated."
        for name in common
        if measured[name] > (limit := kept[name] * (1 + tolerance))
    ]
