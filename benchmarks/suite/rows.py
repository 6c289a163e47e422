"""Result files: JSON lines, appended row by row, so that an interrupted run loses one row at most."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import torch

logger = logging.getLogger(__name__)

#: The results that are kept with the source
RESULTS = pathlib.Path(__file__).parents[1].resolve() / "results"


def default_folder() -> pathlib.Path:
    """Tell where rows are kept: those of a GPU are apart, so that neither stands for the other."""
    return RESULTS / "gpu" if torch.cuda.is_available() else RESULTS


def load(path: pathlib.Path) -> list[dict[str, Any]]:
    """Load the rows of a result file, which need not exist, without lines that were cut off."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines() if path.is_file() else (), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            logger.warning("%s: line %d is no JSON, and is left out; a run was interrupted there.", path, number)
    return rows


def append(path: pathlib.Path, row: Mapping[str, Any]) -> None:
    """Append a row to a result file, which is made with its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # a line that was cut off must not swallow the next one
    broken = path.is_file() and path.read_bytes()[-1:] not in (b"\n", b"")
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if broken else "") + json.dumps(row) + "\n")


def environment(device: torch.device | str) -> dict[str, Any]:
    """Describe where a row was measured: device, threads, processors and versions."""
    device = torch.device(device)
    versions = {package: importlib.metadata.version(package) for package in ("pykeen", "torch", "pykeen-dans")}
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
        "versions": {"python": platform.python_version(), **versions},
    }


def digest(value: Any) -> str:
    """Hash what JSON can express, in 12 digits that do not depend on the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
