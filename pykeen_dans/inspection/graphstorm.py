"""Negatives for GraphStorm, which trains on graphs that are partitioned over machines.

GraphStorm reads *hard negatives* of edges by its transformation ``edge_dst_hard_negative``: a column in the parquet
file of edges with lists of node ids, whose length may vary. They take the place of the destination of the edge.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from pykeen.typing import LABEL_HEAD, LABEL_TAIL, LabeledTriples

from ..utils.tables import read_table

__all__ = [
    "write_graphstorm",
]

_COLUMNS = ("head", "relation", "tail")
_NODE, _FEATURE = "entity", "hard_neg"


def write_graphstorm(
    negatives: Any,
    folder: str | os.PathLike[str],
    *,
    triples: LabeledTriples | None = None,
    inverse: bool = False,
) -> pathlib.Path:
    """Write negatives, and the graph that they belong to, as GraphStorm reads them.

    :param negatives: what :func:`~pykeen_dans.inspection.negatives.negatives_frame` gives, or the path of where it was
        saved
    :param folder: where to write: ``edges``, a file for each relation with ``src``, ``dst`` and ``hard_neg``;
        ``nodes.parquet``; ``graph.json``, for ``graphstorm.gconstruct.construct_graph``; and ``train.yaml``, what a
        training configuration needs in addition. Paths in it begin with this folder.
    :param triples: shape: (num_triples, 3) the labels of all training triples, default: those that have negatives.
        Triples without any have an empty list, and GraphStorm fills up with random ones.
    :param inverse: whether to write each relation a second time, from tail to head, with negative heads

    :returns: the path of ``graph.json``

    :raises ValueError: if columns are missing, if there is nothing to write, or without pyarrow
    """
    table = read_table("negatives", negatives)
    if missing := [name for name in (*_COLUMNS, "side", "negative") if name not in table]:
        raise ValueError(
            f"negatives has no column {', '.join(map(repr, missing))}; give what negatives_frame(...) lists, or the "
            f"path of where it was saved."
        )
    table = table[[*_COLUMNS, "side", "negative"]].astype(str)
    if table.empty:
        raise ValueError("negatives is empty; train longer, or choose more positives.")
    edges = table[[*_COLUMNS]] if triples is None else pd.DataFrame(triples, columns=[*_COLUMNS]).astype(str)
    edges = edges.drop_duplicates(ignore_index=True)
    root = pathlib.Path(folder)
    root.joinpath("edges").mkdir(parents=True, exist_ok=True)
    files, sizes = {}, {}
    for name, each in _edge_types(edges, table, inverse=inverse):
        files[name] = _write(root / "edges" / f"{name}.parquet", src=each["src"], dst=each["dst"], hard_neg=each["ids"])
        sizes[name] = int(each["ids"].map(len).max())
    nodes = pd.unique(pd.concat([edges["head"], edges["tail"], table["negative"]]))
    graph = {
        "version": "gconstruct-v0.1",
        "nodes": [
            {
                "node_id_col": "id",
                "node_type": _NODE,
                "format": {"name": "parquet"},
                "files": _write(root / "nodes.parquet", id=nodes),
            }
        ],
        "edges": [_edge_configuration(name, path, hard=sizes[name] > 0) for name, path in files.items()],
    }
    path = root / "graph.json"
    path.write_text(json.dumps(graph, indent=2) + "\n", encoding="utf-8")
    used = {",".join(_edge_type(name)): size for name, size in sizes.items() if size}
    training = {
        "train_etype": [",".join(_edge_type(name)) for name in files],
        "train_etypes_negative_dstnode": [f"{key}:{_FEATURE}" for key in used],
        "num_train_hard_negatives": [f"{key}:{size}" for key, size in used.items()],
    }
    # JSON is YAML, too
    text = json.dumps({"version": 1.0, "gsf": {"link_prediction": training}}, indent=2)
    root.joinpath("train.yaml").write_text(text + "\n", encoding="utf-8")
    return path


def _edge_types(edges: pd.DataFrame, table: pd.DataFrame, *, inverse: bool) -> Iterator[tuple[str, pd.DataFrame]]:
    """Go through the types of edges, each with its edges and the distinct negatives of each."""
    names = _safe_names(sorted(edges["relation"].unique()))
    sides = [(LABEL_TAIL, "head", "tail", "")] + [(LABEL_HEAD, "tail", "head", "_inverse")] * inverse
    for side, source, target, suffix in sides:
        lists = table[table["side"] == side].groupby([*_COLUMNS])["negative"].agg(lambda ids: [*dict.fromkeys(ids)])
        joined = edges.join(lists.rename("ids"), on=[*_COLUMNS]).rename(columns={source: "src", target: "dst"})
        # a list for each edge: GraphStorm takes the length of all of them
        joined["ids"] = joined["ids"].map(lambda ids: ids if isinstance(ids, list) else [])
        for relation, each in joined.groupby("relation"):
            yield names[str(relation)] + suffix, each


def _safe_names(relations: Sequence[str]) -> dict[str, str]:
    """Name types of edges such that files and lists of types can have the names, each another one."""
    names: dict[str, str] = {}
    for relation in relations:
        name = first = re.sub(r"[^\w.-]+", "_", relation).strip("._") or "relation"
        number = 1
        while name in names.values():
            number += 1
            name = f"{first}_{number}"
        names[relation] = name
    return names


def _edge_type(name: str) -> tuple[str, str, str]:
    return _NODE, name, _NODE


def _edge_configuration(name: str, path: str, *, hard: bool) -> dict[str, Any]:
    feature = {"feature_col": _FEATURE, "feature_name": _FEATURE, "transform": {"name": "edge_dst_hard_negative"}}
    return {
        "source_id_col": "src",
        "dest_id_col": "dst",
        "relation": _edge_type(name),
        "format": {"name": "parquet"},
        "files": path,
        **({"features": [feature]} if hard else {}),
        # all of them are training triples
        "labels": [{"task_type": "link_prediction", "split_pct": [1.0, 0.0, 0.0]}],
    }


def _write(path: pathlib.Path, **columns: Any) -> str:
    """Write columns of strings, or of lists of strings, and tell the path."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError("parquet files need pyarrow: pip install pykeen-dans[export].") from error
    text = pa.string()
    arrays = {
        name: pa.array([*values], type=pa.list_(text) if name == _FEATURE else text) for name, values in columns.items()
    }
    parquet.write_table(pa.table(arrays), path)
    return path.as_posix()
