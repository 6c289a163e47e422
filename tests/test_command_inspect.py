"""The command ``inspect``, for real, on data sets that ship with PyKEEN."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from pykeen.datasets import UMLS, Nations
from pykeen.pipeline import pipeline

from pykeen_dans import FixedNegativeSampler, negatives_frame
from pykeen_dans.commands import main

#: A sampler that is made in no time
QUICK = 'sampler:dans_kgc,reference_kwargs={"kind": "random", "dim": 8},generator_kwargs={"hidden_dim": 8}'
SMALL = ("--epochs", "1", "--embedding-dim", "8")

pytestmark = pytest.mark.usefixtures("shared_cache")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def columns_of(output: str, first: str) -> list[str]:
    """Get the header of the table that begins with a column."""
    (header,) = [line for line in output.splitlines() if line.split()[:1] == [first]]
    return header.split()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Save a result in the way of PyKEEN."""
    folder = tmp_path_factory.mktemp("results") / "saved"
    result = pipeline(
        dataset="nations",
        model="distmult",
        model_kwargs={"embedding_dim": 4},
        training_kwargs={"num_epochs": 1, "use_tqdm": False},
        evaluation_kwargs={"use_tqdm": False},
    )
    result.save_to_directory(folder)
    return folder


def test_generated(tmp_path: pathlib.Path) -> None:
    """What the negatives are, some of them, and all of them in a file that the sampler ``fixed`` reads."""
    path = tmp_path / "negatives.csv"
    result = run(QUICK, "--dataset", "umls", *SMALL, "--per-band", 1, "--export", path)
    assert result.exit_code == 0, result.output
    assert columns_of(result.stdout, "source")[:3] == ["source", "band", "share"]
    assert {"target", "median", "training", "validation", "testing"} <= set(columns_of(result.stdout, "source"))
    assert columns_of(result.stdout, "head") == [
        *("head", "relation", "tail", "side", "negative", "source", "band", "percentile"),
        *("true", "by"),
    ]
    assert "nan" not in result.stdout.lower()
    frame = pd.read_csv(path, dtype=str, na_filter=False)
    factory = UMLS(create_inverse_triples=True).training
    assert {*frame["head"], *frame["negative"]} <= set(factory.entity_to_id)
    assert set(frame["band"]) == {"", "0", "1", "2", "3"}
    sampler = FixedNegativeSampler(
        mapped_triples=factory._add_inverse_triples_if_necessary(factory.mapped_triples),
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        negatives=str(path),
        triples_factory=factory,
    )
    again = negatives_frame(sampler, triples_factory=factory, num_positives=None)
    names = ["head", "relation", "tail", "side", "negative"]
    left, right = (each[names].sort_values(names).reset_index(drop=True) for each in (frame, again))
    pd.testing.assert_frame_equal(left, right)


@pytest.mark.parametrize("way", ["bernoulli", "pseudotyped", "basic,filtered=true", "shared-negatives,num_shared=5"])
def test_other_ways(way: str) -> None:
    result = run(way, "--dataset", "nations", *SMALL)
    assert result.exit_code == 0, result.output
    name = way.partition(",")[0].removesuffix("-negatives")
    (row,) = [line for line in result.stdout.splitlines() if line.startswith(name)]
    assert float(row.split()[1]) == 1, "the share"


def test_own_triples_with_names(tmp_path: pathlib.Path) -> None:
    """Triples of one's own, the names of whose labels are in another file, of some relation."""
    triples = Nations().training.triples
    own = tmp_path / "own.tsv"
    pd.DataFrame(triples).to_csv(own, sep="\t", header=False, index=False)
    labels = tmp_path / "labels.json"
    entities = sorted({*triples[:, 0], *triples[:, 2]})
    labels.write_text(json.dumps({each: {"label": f"«{each}»", "wiki": ""} for each in entities}))
    result = run("basic", "--triples", own, *SMALL, "--labels", labels, "--relation", "embassy", "--num-positives", 4)
    assert result.exit_code == 0, result.output
    rows = result.stdout.partition("\nhead")[2].splitlines()[2:]
    assert len(rows) > 4
    assert all("«" in row and " embassy " in row for row in rows)
    table = tmp_path / "labels.tsv"
    table.write_text("embassy\thas an embassy in\n")
    result = run("basic", "--triples", own, *SMALL, "--labels", table, "--entity", "uk", "--relation", "embassy")
    assert "has an embassy in" in result.stdout
    assert "uk" in result.stdout


def test_directory(saved: pathlib.Path) -> None:
    result = run("bernoulli", "--directory", saved, "--trust", "--dataset", "nations", "--num-negatives", 3)
    assert result.exit_code == 0, result.output
    assert "testing" in columns_of(result.stdout, "source")
    (row,) = [line for line in result.stdout.splitlines() if line.startswith("bernoulli")]
    assert int(row.split()[2]) == 512 * 3
    # of the data set nothing is known but what was saved
    result = run("basic", "--directory", saved, "--trust")
    assert result.exit_code == 0, result.output
    assert "testing" not in columns_of(result.stdout, "source")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset", "nation"), "nations"),
        (("basik", "--dataset", "nations"), "basic"),
        (("basic,filterd=true", "--dataset", "nations"), "filterd"),
        (("lcwa", "--dataset", "nations"), "lcwa draws no negatives; choose a sampler"),
        (("basic", "--dataset", "nations", "--model", "complx"), "complex"),
        (("basic", "--dataset", "nations", *SMALL, "--relation", "embasy"), "embassy"),
        (("basic", "--dataset", "nations", *SMALL, "--entity", "unitedkingdom"), "--entity='unitedkingdom' is unknown"),
        (("basic", "--dataset", "nations", "--export", "x.xlsx"), "suffix '.xlsx'"),
        (("basic", "--dataset", "nations", "--export", "no/such/x.csv"), "the folder does not exist"),
        (("--directory", "no-such-folder"), "is no directory"),
        (("--directory", "."), "has no training_triples"),
        (("lcwa", "--directory", "."), "lcwa is a training loop"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str) -> None:
    """Whatever is wrong is told in one line, with the valid names that are like it."""
    result = run(*arguments)
    assert result.exit_code != 0
    assert message in result.stderr
    assert "Traceback" not in result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert message in line


def test_untrusted_models_are_not_read(saved: pathlib.Path) -> None:
    result = run("basic", "--directory", saved)
    assert result.exit_code == 1
    assert "can run any code" in result.stderr and "--trust" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", "[]", "is no mapping"),
        ("x.json", "{", "cannot be read as JSON"),
        ("x.tsv", "uk\n", "has one column"),
        ("x.tsv", "Q1\tBelgium\n", "none of them of a label of the data; it has 'Q1'"),
    ],
)
def test_bad_names(tmp_path: pathlib.Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    result = run("basic", "--dataset", "nations", *SMALL, "--labels", path)
    assert result.exit_code == 1
    assert message in result.stderr


def test_nothing_selected() -> None:
    triples: Any = Nations().training
    pairs = {(head, relation) for head, relation, _ in triples.triples} | {(t, r) for _, r, t in triples.triples}
    relation, entity = next(
        (relation, entity)
        for relation in triples.relation_to_id
        for entity in triples.entity_to_id
        if (entity, relation) not in pairs
    )
    result = run("basic", "--dataset", "nations", *SMALL, "--relation", relation, "--entity", entity)
    assert result.exit_code == 1
    assert f"--relation={relation} and --entity={entity} leave none of" in result.stderr


def test_process(tmp_path: pathlib.Path) -> None:
    """As a user runs it."""
    command = [sys.executable, "-m", "pykeen_dans", "inspect", "basic", "--dataset", "nations", *SMALL]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 is the hardest" in done.stdout
    assert list(tmp_path.iterdir()) == []
