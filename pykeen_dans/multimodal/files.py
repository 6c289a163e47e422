"""Reading features, texts and labels, from files or from what is in memory already.

Nothing in here runs code of a file: pickles are read with ``weights_only`` (PyTorch) or not at all (numpy).
"""

from __future__ import annotations

import csv
import functools
import lzma
import numbers
import os
import pathlib
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from pykeen.typing import FloatTensor
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..space.entity_space import real_view

__all__ = [
    "read_features",
    "read_texts",
]

#: What readers raise of files that are damaged, of another format, or hold more than numbers
_DAMAGE = (
    *(ValueError, OSError, EOFError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(AssertionError, ImportError, MemoryError, SyntaxError, struct.error, zlib.error, lzma.LZMAError),
    *(zipfile.BadZipFile, tokenize.TokenError, pickle.UnpicklingError, SafetensorError),
)
#: What pandas decompresses on the way
_COMPRESSED = (".xz", ".gz", ".bz2")


def _array(path: pathlib.Path) -> Any:
    loaded: Any = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        return dict(loaded)


def _csv(path: pathlib.Path, *, sep: str, **kwargs: Any) -> pd.DataFrame:
    """Read text whose columns are numbered, and in which no label such as NA stands for a missing value."""
    # labels may hold quotation marks, which mean something in comma-separated files only
    options = {"quoting": csv.QUOTE_MINIMAL if sep == "," else csv.QUOTE_NONE, "header": None, "dtype": str, **kwargs}
    return pd.read_csv(path, sep=sep, na_filter=False, encoding="utf-8-sig", low_memory=False, **options)


def _lines(path: pathlib.Path) -> pd.Series:
    # no text has this separator
    return _csv(path, sep="\x1f")[0]


def _table(path: pathlib.Path, *, sep: str) -> pd.DataFrame:
    first = _csv(path, sep=sep, nrows=2).iloc[0]
    values = pd.to_numeric(first[1:].str.lower().replace(["nan", ""], "0"), errors="coerce")
    header = 0 if first[0] == "" or values.isna().all() else None
    return _csv(path, sep=sep, header=header, names=range(len(first)), dtype={0: str}).set_index(0)


def _text_table(path: pathlib.Path) -> pd.DataFrame:
    kind = _kind(path)
    if kind == ".parquet":
        return _parquet(path)
    # the number of texts may differ between lines
    table = _csv(path, sep=",") if kind == ".csv" else _lines(path).str.split("\t", expand=True).fillna("")
    if table.iat[0, 0] == "":
        # the header of pandas, whose index has no name
        table = table[1:]
        if table.shape[1] > 2 and table[0].to_list() == [str(row) for row in range(len(table))]:
            raise ValueError("the first column numbers the lines, leave it out: to_csv(path, index=False)")
    if table.shape[1] == 1:
        raise ValueError(f"there are labels alone, e.g. {table.iat[0, 0]!r:.60}")
    return table.set_index(0)


def _parquet(path: pathlib.Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    return table.set_index(table.columns[0]) if isinstance(table.index, pd.RangeIndex) else table


_NUMPY = (
    _array,
    "it is damaged, or not readable without running code that it holds: save numbers and strings instead of objects, "
    "by numpy.save(path, array) or numpy.savez(path, features=array, labels=numpy.array(labels, dtype=str))",
)
_TORCH = (
    functools.partial(torch.load, map_location="cpu", weights_only=True),
    "with weights_only=True: it is damaged, or holds more than tensors, which could run any code; save the tensor "
    "alone, by torch.save(tensor, path)",
)
_UTF8 = f"save it as UTF-8, plain or compressed ({', '.join(_COMPRESSED)}), "
_NUMBERS = _UTF8 + "each line with a label and as many numbers as the others"
_TEXTS = _UTF8 + "each line with a label and its text, separated by a tab, or in .csv by a comma and quoted"
#: For each suffix, what reads it, and what to do where that fails
_READERS: Mapping[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    ".npy": _NUMPY,
    ".npz": _NUMPY,
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".safetensors": (load_file, "save it by safetensors.torch.save_file({'features': tensor}, path)"),
    ".csv": (functools.partial(_table, sep=","), _NUMBERS),
    ".tsv": (functools.partial(_table, sep="\t"), _NUMBERS),
    ".parquet": (_parquet, "save it again, or as .npz; parquet files need pyarrow: pip install pyarrow"),
}


def _kind(path: Any) -> str:
    """Tell the kind of a file by its suffix, that of the inner file where it is compressed."""
    pure = pathlib.PurePath(path)
    return pathlib.PurePath(pure.stem if pure.suffix in _COMPRESSED else pure).suffix.lower()


def _read(name: str, path: Any, reader: Callable[[pathlib.Path], Any], remedy: str) -> Any:
    """Read a file; whatever goes wrong becomes an error with the remedy."""
    file = pathlib.Path(os.path.expanduser(path))
    if not file.is_file():
        raise ValueError(f"{name} is no file (looked from {pathlib.Path.cwd()}); check the path.")
    try:
        return reader(file)
    except _DAMAGE as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        if isinstance(error, UnicodeDecodeError):
            # readers work in pieces, so that the position says little
            reason += f", near {error.object[max(0, error.start - 20) : error.start + 20].decode('latin-1')!r}"
        raise ValueError(f"{name} cannot be read ({reason}); {remedy}.") from error


def _read_labels(name: str, labels: Any) -> list[str]:
    if isinstance(labels, str | os.PathLike):
        name = f"{name}['labels']={str(labels)!r}"
        labels = _read(name, labels, _lines, _UTF8 + "one label in each line")
    values = labels.tolist() if hasattr(labels, "tolist") else labels
    values = values if isinstance(values, list | tuple) else [values]
    for row, label in enumerate(values):
        if not isinstance(label, str | numbers.Integral):
            raise ValueError(f"{name} has {label!r:.60} among its labels, in row {row}; give a list of strings.")
    return [str(label) for label in values]


def _not_a_number(rows: Any) -> str:
    """Tell where rows have the first thing that is no number, if they are a table or a list."""
    table = isinstance(rows, pd.Series | pd.DataFrame)
    if not table and not isinstance(rows, list | tuple):
        return ""
    for row, values in zip(
        rows.index if table else range(len(rows)),
        pd.DataFrame(rows).to_numpy(dtype=object) if table else rows,
        strict=True,
    ):
        for value in values if isinstance(values, list | tuple | np.ndarray) else [values]:
            try:
                complex(value)
            except (ValueError, TypeError):
                return f" in row {row!r:.60}"
    return ""


def read_features(name: str, value: Any, *, labels: Any = None) -> tuple[str, FloatTensor, list[str] | None]:
    """Read features from a file, whose suffix tells the format, or from memory.

    ============================ =======================================================================================
    suffix                       content
    ============================ =======================================================================================
    ``.npy``                     an array, rows in the order of ids
    ``.npz``                     an array ``features``, or only one, and optionally an array ``labels`` of strings
    ``.pt``, ``.pth``            a tensor, or a mapping with a tensor ``features`` and optionally a list ``labels``
    ``.safetensors``             a tensor ``features``, or only one
    ``.csv``, ``.tsv``           a label and numbers in each line, with or without a header; may be compressed
    ``.parquet``                 the same; labels are the index, or the first column
    ============================ =======================================================================================

    :param name: the argument's name, for errors
    :param value: the path; or a tensor, an array or nested list, shape: (num_rows, dim) or (num_rows,), complex numbers
        in their real view; or a pandas table, whose index are the labels unless it is the default one
    :param labels: the labels of rows that bring none along, in a list, or in the lines of a file

    :returns: what errors call it, a copy of the features, shape: (num_rows, dim) float32, and the label of each row, or
        None where the rows are in the order of ids

    :raises ValueError: if there is no such file, it is damaged, its suffix is not known, or it holds anything else but
        a matrix of finite numbers, or not as many labels as rows
    """
    own, argument = None, name
    if isinstance(value, str | os.PathLike):
        name, kind = f"{name}['path']={str(value)!r}", _kind(value)
        if kind not in _READERS:
            raise ValueError(
                f"{name} has an unknown suffix; choose one of {', '.join(_READERS)}, or give texts as {{'text': path}}."
            )
        value = _read(name, value, *_READERS[kind])
    if isinstance(value, Mapping):
        own = value.get("labels")
        if "features" not in value and len(value) != 1:
            raise ValueError(f"{name} has no 'features', but {sorted(map(str, value))}; save them by this name.")
        value = value["features"] if "features" in value else next(iter(value.values()))
    rows = value
    if isinstance(value, pd.Series | pd.DataFrame):
        default = isinstance(value.index, pd.RangeIndex) and value.index.equals(pd.RangeIndex(len(value)))
        own, value = None if default else value.index, value.to_numpy()
    try:
        if not isinstance(value, Tensor):
            value = torch.from_numpy(np.array(value, np.complex64 if np.iscomplexobj(value) else np.float32))
        if value.layout != torch.strided:
            # a file may hold one with positions outside of it
            raise TypeError("it is sparse: use tensor.to_dense()")
        features = value.detach().cpu().clone()
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{name} holds a {type(value).__name__} that does not make a matrix of numbers "
            f"({error}{_not_a_number(rows)}); give one path, a tensor, rows of equal length, or a table of a label and "
            f"numbers in each row (from pandas with labels as index, or by to_csv(path, index=False)). Texts go by "
            f"{{'text': path}}."
        ) from error
    if features.ndim not in (1, 2) or features.numel() == 0:
        raise ValueError(f"{name} has the shape {tuple(features.shape)}; give a matrix with one row for each entity.")
    features = real_view(features)
    if own is not None:
        labels = _read_labels(name, own)
    elif labels is not None:
        labels = _read_labels(argument, labels)
    if labels is not None and len(labels) != len(features):
        raise ValueError(f"{name} has {len(features)} rows and {len(labels)} labels; give one label for each row.")
    if bad := (~torch.isfinite(features)).any(dim=-1).nonzero().flatten().tolist():
        examples = [labels[row] if labels else row for row in bad[:5]]
        raise ValueError(
            f"{name} has NaN or infinite values in {len(bad)} of {len(features)} rows, e.g. {examples!r:.200}; leave "
            f"these rows out, or fill them with zeros."
        )
    return name, features, labels


def read_texts(name: str, value: Any) -> tuple[str, list[str], list[str]]:
    """Read texts from a table in a file, or from memory.

    A table has a label in each row, and one or more texts of its entity, which are joined.

    :param name: the argument's name, for errors
    :param value: the path of a table without a header, plain or compressed: ``.csv`` with commas and quotation marks,
        ``.parquet``, any other one with tabs; or a mapping from labels to texts; or a pandas table whose index are the
        labels

    :returns: what errors call it, the texts, some of which may be empty, and the label of each

    :raises ValueError: if there is no such file, it is damaged, or it holds anything else but strings, or no text
    """
    name = f"{name}['text']"
    if isinstance(value, str | os.PathLike):
        name = f"{name}={str(value)!r}"
        value = _read(name, value, _text_table, _TEXTS)
    if isinstance(value, Mapping):
        labels, rows = list(value), [[text] for text in value.values()]
    elif isinstance(value, pd.Series | pd.DataFrame):
        labels, rows = value.index, pd.DataFrame(value).to_numpy(dtype=object).tolist()
    else:
        raise ValueError(
            f"{name} is a {type(value).__name__}; give the path of a table of labels and texts, or a mapping from "
            f"labels to texts."
        )
    for label, row in zip(labels, rows, strict=True):
        if wrong := [text for text in row if not isinstance(text, str)]:
            raise ValueError(
                f"{name} has {wrong[0]!r:.60} among its texts, in row {label!r:.60}; give strings, and '' where there "
                f"is none (fillna('') in pandas)."
            )
    texts = [". ".join(text.strip() for text in row if text.strip()) for row in rows]
    if not any(texts):
        raise ValueError(f"{name} has {len(texts)} texts, all of them empty; give some.")
    return name, texts, _read_labels(name, labels)
