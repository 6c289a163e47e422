"""The commands about recipes."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from pykeen_dans.commands import main
from pykeen_dans.experiments import load_recipe, recipe_names


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["recipes", *arguments])


def test_list() -> None:
    output = run("list").stdout
    assert all(name in output for name in recipe_names())
    umls = run("list", "--dataset", "UMLS").stdout.splitlines()[2:]
    assert len(umls) == sum(name.startswith("umls-") for name in recipe_names())
    assert all(line.startswith("umls-") for line in umls)


def test_show_and_path() -> None:
    assert json.loads(run("show", "umls-complex").stdout) == load_recipe("umls-complex")
    path = pathlib.Path(run("path", "umls-complex").stdout.strip())
    assert json.loads(path.read_text()) == load_recipe("umls-complex")


def test_run(tmp_path: pathlib.Path, shared_cache: pathlib.Path) -> None:
    result = run("run", "umls-complex-crossentropy", "--epochs", "1", "--output", str(tmp_path / "out"), "--offline")
    assert result.exit_code == 0, result.output
    # progress bars are on the other stream
    header, _, row, *_ = result.stdout.splitlines()
    assert header.split() == ["mrr", "hits_at_1", "hits_at_3", "hits_at_10", "seconds"]
    assert 0 < float(row.split()[0]) < 1
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["losses"]) == 1


def test_unknown_names() -> None:
    for command in ("show", "path", "run"):
        result = run(command, "umls-complx")
        assert result.exit_code == 1
        assert "choose one of umls-complex" in result.output
        assert len(result.output.splitlines()) == 1
    result = run("list", "--dataset", "umsl")
    assert result.exit_code == 1
    assert "umls" in result.output


@pytest.mark.slow
def test_pykeen_trains_by_the_path(tmp_path: pathlib.Path) -> None:
    """As users type it, in a shell, from a folder that is not the source's; one epoch is enough to see."""
    python = f"'{sys.executable}' -c"
    path = f"$({python} 'from pykeen_dans.commands import main; main()' recipes path umls-complex-crossentropy)"
    command = f"exec {python} 'from pykeen.cli import main; main()' experiments run {path} -d out"
    env = {key: value for key, value in os.environ.items() if key != "TQDM_DISABLE"}
    with subprocess.Popen(
        command, shell=True, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=env
    ) as process:
        assert process.stderr is not None
        # lines of a progress bar end in a carriage return, which is a line end here
        lines = (line for line in process.stderr if "Training epochs" in line or "Error" in line)
        seen = list(itertools.islice(lines, 1))
        process.kill()
    assert seen and "Training epochs" in seen[0]
