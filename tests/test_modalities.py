"""Features of entities are aligned, masked, and checked before any training starts."""

from __future__ import annotations

import logging
import lzma
import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pykeen.nn import Embedding
from pykeen.triples import CoreTriplesFactory
from safetensors.torch import save_file

from pykeen_dans.multimodal import (
    Modality,
    load_modalities,
)

#: The entities of a small graph, with characters in labels that careless readers stumble over
LABELS = ['<a"b>', "c d", "e\u2028f", "NA", "ünïcode"]
ENTITY_TO_ID = {label: index for index, label in enumerate(LABELS)}
FEATURES = torch.arange(1.0, 11.0).view(5, 2)
#: Another order of the same rows
ORDER = [3, 0, 4, 2, 1]


def load(value: Any, **kwargs: Any) -> Modality:
    """Load one modality for the small graph."""
    kwargs = {"num_entities": 5, "entity_to_id": ENTITY_TO_ID, **kwargs}
    (modality,) = load_modalities({"visual": value}, **kwargs)
    return modality


def write_table(path: pathlib.Path, *, separator: str, header: bool) -> None:
    """Write labels and numbers in another order."""
    rows = [[LABELS[i], *map(str, FEATURES[i].tolist())] for i in ORDER]
    if separator == ",":
        rows = [['"' + row[0].replace('"', '""') + '"', *row[1:]] for row in rows]
    lines = [separator.join(row) for row in ([["label", "width", "height"]] if header else []) + rows]
    text = "\n".join([*lines, ""]).encode()
    path.write_bytes(lzma.compress(text) if path.suffix == ".xz" else text)


WRITERS: dict[str, Callable[[pathlib.Path], object]] = {
    "by_id.npy": lambda path: np.save(path, FEATURES.numpy()),
    "by_id.npz": lambda path: np.savez(path, features=FEATURES.numpy().astype(np.float16)),
    "by_label.npz": lambda path: np.savez(path, features=FEATURES[ORDER].numpy(), labels=[LABELS[i] for i in ORDER]),
    "by_id.pth": lambda path: torch.save(FEATURES.double(), path),
    "parameter.pt": lambda path: torch.save(torch.nn.Parameter(FEATURES), path),
    "by_label.pt": lambda path: torch.save(dict(features=FEATURES[ORDER], labels=[LABELS[i] for i in ORDER]), path),
    "by_id.safetensors": lambda path: save_file({"anything": FEATURES}, path),
    "two.safetensors": lambda path: save_file({"features": FEATURES, "other": torch.ones(1)}, path),
    "by_label.tsv": lambda path: write_table(path, separator="\t", header=False),
    "header.tsv.xz": lambda path: write_table(path, separator="\t", header=True),
    "by_label.csv": lambda path: write_table(path, separator=",", header=False),
    "header.csv": lambda path: write_table(path, separator=",", header=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_files(name: str, tmp_path: pathlib.Path) -> None:
    """All formats give the same features, in the order of ids."""
    path = tmp_path / name
    WRITERS[name](path)
    modality = load(str(path))
    assert torch.equal(modality.features, FEATURES)
    assert modality.features.dtype == torch.float32
    assert modality.covered.all() and modality.coverage == 1
    assert (modality.name, modality.dim) == ("visual", 2)


@pytest.mark.parametrize("as_index", [True, False])
def test_parquet(as_index: bool, tmp_path: pathlib.Path) -> None:
    """Labels are the index, or the first column."""
    pytest.importorskip("pyarrow")
    import pandas as pd

    table = pd.DataFrame(FEATURES[ORDER].numpy(), columns=["a", "b"])
    table.insert(0, "label", [LABELS[i] for i in ORDER])
    (table.set_index("label") if as_index else table).to_parquet(tmp_path / "x.parquet")
    assert torch.equal(load(tmp_path / "x.parquet").features, FEATURES)


def test_parquet_without_pyarrow(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to be installed is said."""
    import pandas as pd

    def fail(path: object) -> None:
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr(pd, "read_parquet", fail)
    (tmp_path / "x.parquet").touch()
    with pytest.raises(ValueError, match="pip install pyarrow"):
        load(tmp_path / "x.parquet")


@pytest.mark.parametrize("value", [FEATURES, FEATURES.numpy(), FEATURES.tolist(), lambda: FEATURES])
def test_values(value: Any) -> None:
    """Tensors, arrays, lists and functions do without labels, and the tensor is copied."""
    modality = load(value, entity_to_id=None)
    assert torch.equal(modality.features, FEATURES)
    modality.features[0] = 0
    assert FEATURES[0].tolist() == [1, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_representation(dtype: torch.dtype) -> None:
    """A PyKEEN representation is called without gradients, and stays as it was."""
    representation = Embedding(max_id=5, shape=3, dtype=dtype, dropout=0.9)
    representation.train()
    modality = load(representation)
    expected = representation._embeddings.weight.detach()
    assert torch.equal(modality.features, expected.view(5, -1))
    assert not modality.features.requires_grad
    assert representation.training


def test_labels_of_rows(tmp_path: pathlib.Path) -> None:
    """The labels of rows come as a list, or as a file of lines, and those in the file itself go first."""
    labels = [LABELS[i] for i in ORDER]
    path, order = tmp_path / "x.npy", tmp_path / "entities.txt.xz"
    np.save(path, FEATURES[ORDER].numpy())
    order.write_bytes(lzma.compress("\n".join(labels).encode()))
    for value in (
        dict(path=str(path), labels=str(order)),
        dict(path=str(path), labels=labels),
        dict(features=FEATURES[ORDER].tolist(), labels=labels),
        dict(features=FEATURES[ORDER], labels=str(order), strict=True),
    ):
        assert torch.equal(load(value).features, FEATURES)
    WRITERS["by_label.npz"](tmp_path / "y.npz")
    assert torch.equal(load(dict(path=tmp_path / "y.npz", labels=LABELS)).features, FEATURES)


def test_missing_and_zero_rows_are_masked(caplog: pytest.LogCaptureFixture) -> None:
    """An entity without a row, or with a row of zeros, is not covered, and the share of the others is logged."""
    with caplog.at_level(logging.INFO, logger="pykeen_dans"):
        modality = load(dict(features=[[1, 0], [0, 0], [0, -1]], labels=[LABELS[3], LABELS[1], LABELS[0]]))
    assert modality.covered.tolist() == [True, False, False, True, False]
    assert modality.features.tolist() == [[0, -1], [0, 0], [0, 0], [1, 0], [0, 0]]
    assert modality.coverage == pytest.approx(0.4)
    assert "covers 2 of 5 entities (40.0 %)" in caplog.text


@pytest.mark.parametrize(
    ("num_unknown", "level"), [(1, logging.INFO), (3, logging.WARNING)], ids=["few unknown", "most unknown"]
)
def test_unknown_labels(num_unknown: int, level: int, caplog: pytest.LogCaptureFixture) -> None:
    """Rows of other entities are left out, which is worth a warning if there are more of them; strictly, an error."""
    unknown = [f"unknown-{i}" for i in range(num_unknown)]
    value = dict(features=[[1.0]] * (num_unknown + 2), labels=[*unknown, *LABELS[:2]])
    with caplog.at_level(logging.INFO, logger="pykeen_dans"):
        assert load(value).covered.tolist() == [True, True, False, False, False]
    (record,) = (record for record in caplog.records if "unknown-0" in record.message)
    assert record.levelno == level
    assert f"{num_unknown} of {num_unknown + 2} labels" in record.message
    with pytest.raises(ValueError, match=rf"{num_unknown} of {num_unknown + 2} labels.*unknown-0.*strict"):
        load({**value, "strict": True})


def test_several_modalities() -> None:
    """The order is that of the argument, and without any there is none."""
    loaded = load_modalities(dict(visual=FEATURES, anything=FEATURES[:, :1]), num_entities=5, entity_to_id=None)
    assert [(modality.name, modality.dim) for modality in loaded] == [("visual", 2), ("anything", 1)]
    for nothing in (None, {}):
        assert load_modalities(nothing, num_entities=5, entity_to_id=None) == ()


NAN = FEATURES.clone()
NAN[[1, 3], 0] = torch.tensor([torch.nan, torch.inf])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (FEATURES[:4], r"modalities\['visual'\] has 4 rows, but there are 5 entities.*labels"),
        (dict(features=FEATURES, labels=LABELS[:4]), "5 rows and 4 labels"),
        (dict(features=FEATURES, labels=list("uvwxy")), r"5 of 5 labels that no entity has.*'u', 'v', 'w', 'x', 'y'"),
        (dict(features=FEATURES, labels=["c d"] * 5), r"1 labels more than once.*'c d'"),
        (NAN, "NaN or infinite values in 2 of 5 rows"),
        (torch.zeros(5, 2), "covers none of 5 entities"),
        (dict(features=[[0.0], [1.0]], labels=["c d", "other"]), "covers none of 5 entities"),
        (torch.ones(5, 2, 2), r"shape \(5, 2, 2\)"),
        (torch.ones(5, 0), r"shape \(5, 0\)"),
        ([[1.0, 2.0], [3.0]], "list that does not make a matrix"),
        (17.5j, r"has the shape \(\)"),
        (["a.npy", "b.npy"], "list that does not make a matrix.*give one path"),
        (dict(path="a.npy", text="b.tsv"), "has path and text of path, features, text; .*exactly one"),
        (dict(labels=LABELS), "has nothing of path, features, text"),
        (dict(features=FEATURES, encoder="tfidf"), r"unknown options \['encoder'\].*features, labels, strict"),
        (dict(text={"c d": " ", "NA": ""}), "2 texts, all of them empty"),
        (dict(text={"c d": " ", "other": "text"}), "no text for any entity"),
        (dict(text=["a", "b"]), r"\['text'\] is a list"),
        (dict(text={"c d": "text"}, encoder="unheard-of"), "encoder='unheard-of' is unknown; choose one of.*tfidf"),
        ("missing.npy", r"'missing.npy' is no file"),
        (dict(path="missing.npy"), r"modalities\['visual'\]\['path'\]='missing.npy' is no file"),
        (dict(text="missing.tsv"), r"\['text'\]='missing.tsv' is no file"),
        (dict(features=FEATURES, labels="missing.txt"), r"\['labels'\]='missing.txt' is no file"),
    ],
)
def test_bad_values(value: Any, message: str) -> None:
    """What is wrong is said, with the modality, the numbers and the remedy."""
    with pytest.raises(ValueError, match=message):
        load(value)


@pytest.mark.parametrize(
    ("name", "message"), [("structural", "'structural', which is reserved"), ("", "choose a text that is not empty")]
)
def test_bad_names(name: str, message: str) -> None:
    """The structural modality is the model's own."""
    with pytest.raises(ValueError, match=message):
        load_modalities({name: FEATURES}, num_entities=5, entity_to_id=None)


@pytest.mark.parametrize("value", [dict(features=FEATURES, labels=LABELS), dict(text={"c d": "text"})])
def test_labels_without_labels(value: Any) -> None:
    """Where entities are integers only, nothing can be aligned by labels."""
    with pytest.raises(ValueError, match=r"entities have none.*TriplesFactory"):
        load(value, entity_to_id=None)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("x.npy", lambda path: np.save(path, np.array([{}]), allow_pickle=True), "without running code"),
        ("x.npy", lambda path: np.save(path, np.array(["a"])), "does not make a matrix of numbers"),
        ("x.npz", lambda path: np.savez(path, vectors=FEATURES.numpy(), a=1), r"no 'features', but \['a', 'vectors'\]"),
        ("x.pth", lambda path: path.write_bytes(pickle.dumps(FEATURES.numpy())), "weights_only=True"),
        ("x.pth", lambda path: torch.save(CoreTriplesFactory, path), "weights_only=True"),
        ("x.pth", lambda path: torch.save({"weights": {}}, path), "dict that does not make a matrix"),
        ("x.safetensors", lambda path: path.write_bytes(b"no tensors"), "SafetensorError.*save_file"),
        ("x.safetensors", lambda path: save_file({"a": FEATURES, "b": FEATURES + 1}, path), "no 'features'"),
        ("x.tsv", lambda path: path.write_text("NA\tsome text\nc d\tmore\n"), "'text': "),
        (
            "x.tsv",
            lambda path: path.write_text("NA\t1\t2\nc d\t3\n"),
            "could not convert.*label and numbers in each row",
        ),
        ("x.tsv", lambda path: path.write_text("NA\nc d\n"), r"shape \(1, 0\)"),
        ("x.csv", lambda path: path.write_text(""), "No columns.*each line with a label"),
        ("x.csv", lambda path: path.write_text("NA,1\nc d,\n"), "could not convert string to float: ''"),
        ("x.jpeg", lambda path: path.touch(), "unknown suffix.*.npy, .npz, .pt"),
    ],
)
def test_bad_files(name: str, write: Callable[[pathlib.Path], object], message: str, tmp_path: pathlib.Path) -> None:
    """Files that cannot be used are refused; none of them gets to run code."""
    path = tmp_path / name
    write(path)
    with pytest.raises(ValueError, match=message):
        load(path)


def test_repeated_text(tmp_path: pathlib.Path) -> None:
    """It is not guessed which of two texts is meant."""
    path = tmp_path / "text.tsv"
    path.write_text("NA\tone\nc d\ttwo\nNA\tthree\n")
    with pytest.raises(ValueError, match=r"1 labels more than once, e.g. \['NA'\]"):
        load(dict(text=path))


def test_text_table(tmp_path: pathlib.Path, isolated_cache: pathlib.Path) -> None:
    """Columns are joined, and entities whose columns are all empty are not covered."""
    path = tmp_path / "text.tsv.xz"
    lines = ["NA\tsodium\tan element", "c d\t\t", "e\u2028f\tgold\tanother element", '<a"b>\t\tan element']
    path.write_bytes(lzma.compress("\n".join(lines).encode()))
    modality = load(dict(text=str(path), encoder="tfidf", encoder_kwargs=dict(dim=3)))
    assert modality.covered.tolist() == [True, False, True, True, False]
    similarity = torch.nn.functional.cosine_similarity(modality.features[None], modality.features[:, None], dim=-1)
    assert similarity[0, 3] > similarity[2, 3]
