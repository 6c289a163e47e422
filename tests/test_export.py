"""Negatives as GraphStorm reads them."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from pykeen.pipeline import pipeline

from pykeen_dans.commands import main
from pykeen_dans.inspection.graphstorm import write_graphstorm

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

FRAME = pd.DataFrame(
    [
        ("a", "likes", "b", "tail", "c"),
        ("a", "likes", "b", "tail", "d"),
        ("a", "likes", "b", "tail", "c"),
        ("a", "likes", "b", "head", "NA"),
        ("b", "has/is", "a", "head", "d"),
        ("b", "has is", "a", "tail", "e"),
    ],
    columns=["head", "relation", "tail", "side", "negative"],
)


def read(folder: pathlib.Path, name: str) -> dict[str, Any]:
    return parquet.read_table(folder / "edges" / f"{name}.parquet").to_pydict()


def hard_negatives(path: pathlib.Path) -> np.ndarray:
    """Read a column in the way of GraphStorm: each list has a length, and short ones are padded with -1."""
    lists = parquet.read_table(path).to_pandas()["hard_neg"].to_numpy()
    padded = np.full((len(lists), max(len(each) for each in lists)), "-1", dtype=object)
    for row, each in zip(padded, lists, strict=True):
        row[: len(each)] = each.astype(str)
    return padded


def test_a_file_for_each_relation(tmp_path: pathlib.Path) -> None:
    write_graphstorm(FRAME, tmp_path, triples=[("a", "likes", "b"), ("e", "likes", "a"), ("b", "has/is", "a")])
    assert read(tmp_path, "likes") == {"src": ["a", "e"], "dst": ["b", "a"], "hard_neg": [["c", "d"], []]}
    assert hard_negatives(tmp_path / "edges" / "likes.parquet").tolist() == [["c", "d"], ["-1", "-1"]]
    schema = parquet.read_schema(tmp_path / "edges" / "likes.parquet")
    assert schema.field("hard_neg").type == pa.list_(pa.string()) and schema.field("src").type == pa.string()
    assert {*parquet.read_table(tmp_path / "nodes.parquet")["id"].to_pylist()} == {"a", "b", "c", "d", "e", "NA"}


def test_heads_are_negatives_of_inverse_edges(tmp_path: pathlib.Path) -> None:
    FRAME.to_csv(tmp_path / "negatives.csv", index=False)
    write_graphstorm(tmp_path / "negatives.csv", tmp_path, inverse=True)
    assert read(tmp_path, "likes_inverse") == {"src": ["b"], "dst": ["a"], "hard_neg": [["NA"]]}
    # names that are alike once they are fit for files
    assert read(tmp_path, "has_is")["hard_neg"] == [["e"]]
    assert read(tmp_path, "has_is_2")["hard_neg"] == [[]]


def test_configurations_name_what_was_written(tmp_path: pathlib.Path) -> None:
    graph = json.loads(write_graphstorm(FRAME, tmp_path).read_text())
    edges = {tuple(each["relation"]): each for each in graph["edges"]}
    assert set(edges) == {("entity", name, "entity") for name in ("likes", "has_is", "has_is_2")}
    assert edges["entity", "likes", "entity"]["features"][0]["transform"] == {"name": "edge_dst_hard_negative"}
    # nothing to read where no edge has a negative
    assert "features" not in edges["entity", "has_is_2", "entity"]
    assert all(pathlib.Path(each["files"]).is_file() for each in [*graph["edges"], *graph["nodes"]])
    training = yaml.safe_load((tmp_path / "train.yaml").read_text())["gsf"]["link_prediction"]
    assert "entity,likes,entity:hard_neg" in training["train_etypes_negative_dstnode"]
    assert "entity,likes,entity:2" in training["num_train_hard_negatives"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [(FRAME.drop(columns="side"), "no column 'side'"), (FRAME[:0], "negatives is empty"), (3, "give the path")],
)
def test_what_cannot_be_written(frame: Any, message: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_graphstorm(frame, tmp_path)


def test_command(tmp_path: pathlib.Path, shared_cache: pathlib.Path) -> None:
    """A saved model becomes files in which each training triple is an edge."""
    result = pipeline(dataset="nations", model="DistMult", model_kwargs=dict(embedding_dim=4), random_seed=0)
    result.save_to_directory(tmp_path / "run")
    out = CliRunner().invoke(main, ["export", str(tmp_path / "run"), str(tmp_path / "out")])
    assert out.exit_code == 1 and "trust" in out.output
    options = ["--trust", "--negative-sampler", "basic", "--inverse"]
    out = CliRunner().invoke(main, ["export", str(tmp_path / "run"), str(tmp_path / "out"), *options])
    assert out.exit_code == 0, out.output
    edges = [parquet.read_table(path) for path in tmp_path.joinpath("out", "edges").glob("*.parquet")]
    assert sum(map(len, edges)) == 2 * result.training.num_triples
    assert sum(len(each) for edge in edges for each in edge["hard_neg"].to_pylist()) > result.training.num_triples / 2
