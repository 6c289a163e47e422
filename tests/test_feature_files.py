"""Feature files as people have them: from pandas, from other programs, sparse, and damaged."""

from __future__ import annotations

import gzip
import lzma
import os
import pathlib
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from pykeen_dans.multimodal import Modality, load_modalities

LABELS = ["a", "b", "NA"]
FEATURES = torch.arange(1.0, 7.0).view(3, 2)
ORDER = [2, 0, 1]
TABLE = pd.DataFrame(FEATURES[ORDER].numpy(), index=[LABELS[i] for i in ORDER])
TEXTS = pd.DataFrame({"name": ["Bea", "Nat", "Al"], "about": ["a bee", "", "an owl"]}, index=["b", "NA", "a"])


@pytest.fixture(autouse=True)
def _cache(isolated_cache: pathlib.Path) -> None:
    """Leave the user's cache alone."""


def load(value: Any, labels: list[str] = LABELS) -> Modality:
    """Load one modality for three entities."""
    ids = {label: index for index, label in enumerate(labels)}
    (modality,) = load_modalities({"visual": value}, num_entities=3, entity_to_id=ids)
    return modality


GOOD: dict[str, Callable[[pathlib.Path], object]] = {
    "index.csv": lambda path: TABLE.to_csv(path),
    "named.csv.gz": lambda path: TABLE.rename_axis("label").to_csv(path),
    "column.csv.bz2": lambda path: TABLE.rename_axis("label").reset_index().to_csv(path, index=False),
    "plain.tsv.xz": lambda path: TABLE.to_csv(path, sep="\t", header=False),
    "bom.tsv": lambda path: TABLE.to_csv(path, sep="\t", header=False, encoding="utf-8-sig"),
    "bom.csv": lambda path: TABLE.to_csv(path, encoding="utf-8-sig"),
    "windows.csv": lambda path: TABLE.to_csv(path, lineterminator="\r\n"),
    "only.npz": lambda path: np.savez(path, vectors=FEATURES.numpy()),
    "weights.pt": lambda path: torch.save({"weight": FEATURES}, path),
}


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str, tmp_path: pathlib.Path) -> None:
    """What pandas and others write by default is read without loss of the first row."""
    GOOD[name](tmp_path / name)
    assert torch.equal(load(tmp_path / name).features, FEATURES)


@pytest.mark.parametrize("labels", [[1, 2, 0], torch.tensor([1, 2, 0]), np.array(["1", "2", "0"])])
def test_integer_labels(labels: Any, tmp_path: pathlib.Path) -> None:
    """Numbers stand for labels that are made of digits."""
    order = torch.tensor([1, 2, 0])
    assert torch.equal(load(dict(features=FEATURES[order], labels=labels), ["0", "1", "2"]).features, FEATURES)
    if not isinstance(labels, np.ndarray):
        torch.save({"features": FEATURES[order], "labels": labels}, tmp_path / "x.pt")
        assert torch.equal(load(tmp_path / "x.pt", ["0", "1", "2"]).features, FEATURES)


def test_tables_in_memory() -> None:
    """Tables are aligned by their index, unless that is the one which pandas makes up."""
    assert torch.equal(load(TABLE).features, FEATURES)
    assert torch.equal(load(TABLE[0]).features, FEATURES[:, :1])
    assert torch.equal(load(dict(features=TABLE, strict=True)).features, FEATURES)
    assert torch.equal(load(pd.DataFrame(FEATURES.numpy())).features, FEATURES)
    reverse = pd.DataFrame(FEATURES.numpy())[::-1]
    assert torch.equal(load(reverse, ["0", "1", "2"]).features, FEATURES)
    with pytest.raises(ValueError, match=r"3 of 3 labels that no entity has, e.g. \['2', '1', '0'\]"):
        load(reverse)


def test_complex_numbers() -> None:
    """No imaginary part is dropped."""
    for value in (torch.view_as_complex(FEATURES)[:, None], torch.view_as_complex(FEATURES).numpy()):
        assert torch.equal(load(value).features, FEATURES)


TEXT_FILES: dict[str, Callable[[pathlib.Path], object]] = {
    "index.csv": lambda path: TEXTS.to_csv(path),
    "plain.csv.gz": lambda path: TEXTS.to_csv(path, header=False),
    "index.tsv": lambda path: TEXTS.to_csv(path, sep="\t"),
    "bom.txt": lambda path: TEXTS.to_csv(path, sep="\t", header=False, encoding="utf-8-sig"),
    "ragged.tsv": lambda path: path.write_text("NA\tNat\na\tAl\tan owl\nb\tBea\ta bee\n"),
}


@pytest.mark.parametrize("name", [*TEXT_FILES, "table", "mapping"])
def test_texts(name: str, tmp_path: pathlib.Path) -> None:
    """Texts in all forms give the same features."""
    expected = load(dict(text={"a": "Al. an owl", "b": "Bea. a bee", "NA": "Nat"})).features
    value: Any = TEXTS
    if name in TEXT_FILES:
        value = tmp_path / name
        TEXT_FILES[name](value)
    elif name == "mapping":
        value = TEXTS.agg(lambda row: ". ".join(filter(None, row)), axis="columns")
    assert torch.equal(load(dict(text=value)).features, expected)


BAD_FEATURES: dict[str, tuple[Callable[[pathlib.Path], object], str]] = {
    "x.npz": (lambda path: path.write_bytes(b"PK\3\4" + bytes(40)), "BadZipFile.*numpy.savez"),
    "x.npy": (lambda path: path.touch(), "EOFError.*numpy.save"),
    "x.csv.gz": (lambda path: path.write_bytes(b"a,1,2\n"), "BadGzipFile.*save it as UTF-8"),
    "half.csv.gz": (lambda path: path.write_bytes(gzip.compress(bytes(9999))[:20]), "EOFError.*save it as UTF-8"),
    "x.tsv.xz": (lambda path: path.write_bytes(b"a\t1\t2\n"), "LZMAError.*save it as UTF-8"),
    "half.tsv.xz": (lambda path: path.write_bytes(lzma.compress(b"a\t1\n" * 9)[:40]), "EOFError.*save it as UTF-8"),
    "latin.csv": (
        lambda path: path.write_bytes("NA,1\né,2\n".encode("latin-1")),
        r"UnicodeDecodeError.*, near 'NA,1\\né,2.*save it as UTF-8",
    ),
    "pandas.csv": (
        lambda path: TABLE.rename_axis("label").reset_index().to_csv(path),
        r"could not convert string to float: 'NA' in row '0'.*to_csv\(path, index=False\)",
    ),
    "narrow.csv": (lambda path: path.write_text("x,y\na,1,2\nb,3,4\n"), "Expected 2 fields.*as many numbers"),
    "gap.csv": (lambda path: path.write_text("NA,,1\nb,2,3\n"), "could not convert string to float: '' in row 'NA'"),
    "nan.csv": (
        lambda path: path.write_text("NA,nan,nan\nb,2,3\n"),
        r"NaN or infinite values in 1 of 2 rows, e.g. \['NA'",
    ),
    "sparse.pt": (lambda path: torch.save(FEATURES.to_sparse(), path), r"it is sparse: use tensor.to_dense\(\)"),
    "integers.pt": (
        lambda path: torch.save({"features": FEATURES, "labels": [7, 8, 9]}, path),
        r"labels that no entity has, e.g. \['7', '8', '9'\]; entities are called e.g. \['a', 'b'\].*Give the labels",
    ),
    "lists.pt": (
        lambda path: torch.save({"features": FEATURES, "labels": [["a"], "b", None]}, path),
        r"\['a'\] among its labels, in row 0; give a list of strings",
    ),
    "bytes.npz": (
        lambda path: np.savez(path, features=[[1.0]], labels=[b"a"]),
        "b'a' among its labels, in row 0",
    ),
    "half.safetensors": (lambda path: path.write_bytes(bytes([255] * 9)), "SafetensorError.*save_file"),
}


@pytest.mark.parametrize("name", BAD_FEATURES)
def test_bad_features(name: str, tmp_path: pathlib.Path) -> None:
    """Errors have the argument, the path and the remedy."""
    write, message = BAD_FEATURES[name]
    write(tmp_path / name)
    prefix = re.escape(f"modalities['visual']['path']={str(tmp_path / name)!r} ")
    with pytest.raises(ValueError, match=f"^{prefix}.*{message}"):
        load(tmp_path / name)


BAD_TEXTS: dict[str, tuple[Callable[[pathlib.Path], object], str]] = {
    "comma.tsv": (lambda path: TEXTS.to_csv(path), "labels alone.*separated by a tab, or in .csv by a comma"),
    "latin.tsv": (
        lambda path: path.write_bytes("a\tcafé\n".encode("latin-1")),
        "UnicodeDecodeError.*near .*café.*save it as UTF-8",
    ),
    "empty.tsv": (lambda path: path.touch(), "No columns.*each line with a label and its text"),
    "half.tsv.gz": (lambda path: path.write_bytes(gzip.compress(bytes(9999))[:20]), "EOFError.*save it as UTF-8"),
    "pandas.csv": (
        lambda path: TEXTS.rename_axis("label").reset_index().to_csv(path),
        r"the first column numbers the lines.*to_csv\(path, index=False\)",
    ),
    "open.csv": (lambda path: path.write_text("a,x, y\nb,z\nNA,1,2,3\n"), "Expected 3 fields.*by a comma and quoted"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_bad_texts(name: str, tmp_path: pathlib.Path) -> None:
    """Errors have the argument, the path and the remedy."""
    write, message = BAD_TEXTS[name]
    write(tmp_path / name)
    prefix = re.escape(f"modalities['visual']['text']={str(tmp_path / name)!r} ")
    with pytest.raises(ValueError, match=f"^{prefix}.*{message}"):
        load(dict(text=tmp_path / name))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            dict(text={"a": "x", "b": float("nan")}),
            r"\['text'\] has nan among its texts, in row 'b'; give strings",
        ),
        (dict(text={"a": ["x", "y"]}), r"\['text'\] has \['x', 'y'\] among its texts, in row 'a'; give strings"),
        (dict(text=TEXTS.replace("", None)), r"\['text'\] has (None|nan) among its texts, in row 'NA'.*fillna\(''\)"),
        (dict(text={("a", "b"): "x"}), r"\('a', 'b'\) among its labels, in row 0; give a list of strings"),
        (dict(features=FEATURES, labels={"a": 0}), "among its labels, in row 0; give a list of strings"),
        (dict(features=FEATURES, labels=2.5), "2.5 among its labels, in row 0; give a list of strings"),
        ([[1.0], ["x"]], "could not convert string to float: 'x' in row 1.*give one path"),
        (TABLE.replace(3.0, "x"), "could not convert string to float: 'x' in row 'b'.*labels as index"),
        (TABLE.replace(3.0, float("inf")), r"infinite values in 1 of 3 rows, e.g. \['b'\]"),
        ([[1.0], [0.0], [float("nan")]], r"infinite values in 1 of 3 rows, e.g. \[2\]"),
        (dict(path=5), r"has the shape \(\); give a matrix"),
        (dict(features=FEATURES, strict="false"), r"\['strict'\]='false' is neither true nor false"),
        (FEATURES.to_sparse(), r"it is sparse: use tensor.to_dense\(\)"),
        (None, r"has the shape \(\); give a matrix"),
    ],
)
def test_bad_values(value: Any, message: str) -> None:
    """Errors have the argument and the remedy."""
    with pytest.raises(ValueError, match=rf"modalities\['visual'\].*{message}"):
        load(value)


def test_bad_modalities() -> None:
    """The whole argument may be something else, too."""
    for value, message in (
        (1.5, "modalities is a float; give a mapping"),
        ({5: FEATURES}, "the name 5; choose a text"),
    ):
        with pytest.raises(ValueError, match=message):
            load_modalities(value, num_entities=3, entity_to_id=None)  # type: ignore[arg-type]


class Malicious:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: pathlib.Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return pathlib.Path.touch, (self.trace,)


@pytest.mark.parametrize("suffix", ["npy", "npz", "pt", "pth", "safetensors", "csv", "tsv", "csv.gz", "parquet"])
def test_no_pickle_is_read(suffix: str, tmp_path: pathlib.Path) -> None:
    """A pickle with any suffix, alone and inside of archives, runs nothing."""
    trace, path = tmp_path / "trace", tmp_path / f"x.{suffix}"
    array = np.array([Malicious(trace)], dtype=object)
    writers: list[Callable[[], object]] = [
        lambda: path.write_bytes(pickle.dumps(Malicious(trace))),
        lambda: np.save(path.open("wb"), array, allow_pickle=True),
        lambda: np.savez(path.open("wb"), features=array),
        lambda: torch.save(Malicious(trace), path),
    ]
    for write in writers:
        write()
        for value in (path, dict(text=path), dict(features=FEATURES, labels=path)):
            with pytest.raises(ValueError, match="visual"):
                load(value)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.pt", "x.safetensors", "x.csv", "x.csv.gz", "x.tsv.xz"])
def test_damaged_at_random(name: str, tmp_path: pathlib.Path) -> None:
    """Whatever becomes of the bytes of a file, it is read, or the error has its path."""
    path, random = tmp_path / name, np.random.default_rng(0)
    labels = [LABELS[i] for i in ORDER]
    if name.endswith((".npy", ".npz")):
        np.save(path, FEATURES.numpy()) if name == "x.npy" else np.savez(path, features=TABLE, labels=labels)
    elif name == "x.pt":
        torch.save({"features": FEATURES[ORDER], "labels": labels}, path)
    elif name == "x.safetensors":
        save_file({"features": FEATURES}, path)
    else:
        TABLE.to_csv(path, sep="\t" if ".tsv" in name else ",")
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    for _ in range(int(os.environ.get("PYKEEN_DANS_DAMAGED_FILES", 40))):
        damaged = content.copy()
        positions = random.integers(len(damaged), size=random.integers(1, 8))
        damaged[positions] = random.integers(256, size=len(positions))
        path.write_bytes(damaged[: random.integers(1, len(damaged) + 1)].tobytes())
        try:
            load(path)
        except ValueError as error:
            assert str(path) in str(error) or "covers none" in str(error)
