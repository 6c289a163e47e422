"""Processes that have imported nothing of PyKEEN, and nothing of this package.

What both are built on takes many times as long to import, so that this is done once, and processes are forked from it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

#: Fork a process for each case, in which standard output and error are files
SERVER = """
import importlib, json, os, sys, traceback
for name in ("torch", "torch._dynamo", "pandas", "optuna", "scipy.special", "sklearn.cluster", "safetensors.torch"):
    importlib.import_module(name)
names = [name for name in sys.modules if name.startswith("pykeen")]
assert not names, names
for number, code in enumerate(json.load(sys.stdin)):
    process = os.fork()
    if process == 0:
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
        status = 0
        try:
            exec(compile(code, "case", "exec"), {"__name__": "__main__"})
        except SystemExit as error:
            status = error.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        # without tearing the interpreter down, which takes longer than the case
        os._exit(status)
    _, status = os.waitpid(process, 0)
    print(os.waitstatus_to_exitcode(status))
"""


def run_python(code: str, *options: str, cwd: object, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, with few threads, and from a directory without our sources."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", "COLUMNS": "200"}
    # what is compiled once need not be compiled again
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, env=env, cwd=cwd, timeout=300, **kwargs
    )


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    status: int
    stdout: str
    stderr: str


def run_cases(cases: dict[str, str], folder: pathlib.Path) -> dict[str, Outcome]:
    """Run some cases, each in a process of its own."""
    result = run_python(SERVER, cwd=folder, input=json.dumps(list(cases.values())))
    assert result.returncode == 0, result.stderr
    return {
        name: Outcome(int(status), *((folder / f"{number}.{kind}").read_text() for kind in ("stdout", "stderr")))
        for number, (name, status) in enumerate(zip(cases, result.stdout.split(), strict=True))
    }
