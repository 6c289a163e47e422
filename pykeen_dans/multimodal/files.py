"""Reading features, texts and lists of labels from files.

Nothing in here runs code of a file: pickles are read with ``weights_only`` (PyTorch) or not at all (numpy).
"""

from __future__ import annotations

import bz2
import csv
import dataclasses
import gzip
import lzma
import pathlib
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Rows",
    "read_features",
    "read_labels",
    "read_texts",
]

#: How a plain or compressed text file is opened
_OPEN: Mapping[str, Callable[..., IO[str]]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}

#: What separates the columns of a table
_SEPARATORS = {".tsv": "\t", ".csv": ","}


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """What a file holds, before it is aligned with the entities of a graph.

    :param features: shape: (num_rows, ...) the features
    :param labels: the label of each row, or None where the rows are in the order of ids
    """

    features: Tensor
    labels: Sequence[str] | None = None


def _existing(name: str, path: str | pathlib.Path) -> pathlib.Path:
    """Check that a file exists.

    :raises ValueError: if it does not
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"{name}={str(path)!r} is no file (looked from {pathlib.Path.cwd()}); check the path.")
    return path


def _read_lines(path: pathlib.Path) -> Iterator[str]:
    """Iterate over the non-empty lines of a plain or compressed UTF-8 file, which only line feeds end."""
    with _OPEN.get(path.suffix, open)(path, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            if line := line.rstrip("\r\n"):
                yield line


def _kind(path: pathlib.Path) -> str:
    """Tell the kind of a file by its suffix, that of the inner file where it is compressed."""
    return pathlib.PurePath(path.stem if path.suffix in _OPEN else path).suffix.lower()


def read_labels(name: str, path: str | pathlib.Path) -> list[str]:
    """Read a list of labels, one in each line.

    :param name: the argument's name, for errors
    :param path: the file, plain or compressed (``.xz``, ``.gz``, ``.bz2``)

    :returns: the labels

    :raises ValueError: if there is no such file
    """
    return list(_read_lines(_existing(name, path)))


def read_texts(name: str, path: str | pathlib.Path) -> dict[str, str]:
    """Read a table of texts: a label, and one or more texts of its entity, which are joined.

    :param name: the argument's name, for errors
    :param path: the tab-separated file, without a header, plain or compressed (``.xz``, ``.gz``, ``.bz2``)

    :returns: the text of each label, which may be empty

    :raises ValueError: if there is no such file, or a label occurs twice
    """
    texts: dict[str, str] = {}
    twice = []
    for line in _read_lines(_existing(name, path)):
        label, *columns = line.split("\t")
        if label in texts:
            twice.append(label)
        texts[label] = ". ".join(column.strip() for column in columns if column.strip())
    if twice:
        raise ValueError(
            f"{name}={str(path)!r} has {len(twice)} labels more than once, e.g. {twice[:5]}; join their lines into one."
        )
    return texts


def read_features(name: str, path: str | pathlib.Path) -> Rows:
    """Read features from a file, whose suffix tells the format.

    ============================ =======================================================================================
    suffix                       content
    ============================ =======================================================================================
    ``.npy``                     an array, rows in the order of ids
    ``.npz``                     an array ``features``, and optionally an array ``labels`` of strings
    ``.pt``, ``.pth``            a tensor, or a mapping with a tensor ``features`` and optionally a list ``labels``
    ``.safetensors``             a tensor ``features``, or only one tensor
    ``.csv``, ``.tsv``           a label and numbers in each line, with or without a header; may be compressed
    ``.parquet``                 the same; needs ``pyarrow``
    ============================ =======================================================================================

    :param name: the argument's name, for errors
    :param path: the file

    :returns: its rows

    :raises ValueError: if there is no such file, it is not readable, or its suffix is not known
    """
    path = _existing(name, path)
    kind = _kind(path)
    readers: Mapping[str, Callable[[str, pathlib.Path], Rows]] = {
        ".npy": _read_numpy,
        ".npz": _read_numpy,
        ".pt": _read_torch,
        ".pth": _read_torch,
        ".safetensors": _read_safetensors,
        ".csv": _read_table,
        ".tsv": _read_table,
        ".parquet": _read_parquet,
    }
    if kind not in readers:
        raise ValueError(
            f"{name}={str(path)!r} has an unknown suffix; choose one of {', '.join(readers)}, or give texts as "
            f"{{'text': {str(path)!r}}}."
        )
    return readers[kind](name, path)


def _read_numpy(name: str, path: pathlib.Path) -> Rows:
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return Rows(_numbers(name, path, loaded))
        with loaded:
            content = {key: loaded[key] for key in loaded.files}
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{name}={str(path)!r} is not readable without running code that it may hold ({error}). Save arrays of "
            f"numbers and strings, not of objects: labels as np.array(labels, dtype=str)."
        ) from error
    if "features" not in content:
        raise ValueError(f"{name}={str(path)!r} has no array 'features', but {sorted(content)}; save it by this name.")
    labels = content.get("labels")
    return Rows(
        _numbers(name, path, content["features"]), None if labels is None else [str(label) for label in labels.tolist()]
    )


def _numbers(name: str, path: pathlib.Path, array: np.ndarray[Any, Any]) -> Tensor:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}={str(path)!r} holds {array.dtype} instead of numbers; save an array of floats.")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _read_torch(name: str, path: pathlib.Path) -> Rows:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(
            f"{name}={str(path)!r} cannot be loaded with weights_only=True: it is damaged, or a pickle of more than "
            f"tensors, which could run any code. Save the tensor alone, torch.save(tensor, path), or use .npy or "
            f".safetensors."
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("features"), Tensor):
        return Rows(content["features"].detach(), content.get("labels"))
    if not isinstance(content, Tensor):
        raise ValueError(
            f"{name}={str(path)!r} holds a {type(content).__name__} instead of a tensor; save the tensor alone."
        )
    return Rows(content.detach())


def _read_safetensors(name: str, path: pathlib.Path) -> Rows:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{name}={str(path)!r} is no readable safetensors file ({error}); save it again.") from error
    if "features" not in content and len(content) != 1:
        raise ValueError(f"{name}={str(path)!r} has no tensor 'features', but {sorted(content)}; save it by this name.")
    return Rows(content["features"] if "features" in content else next(iter(content.values())))


def _read_table(name: str, path: pathlib.Path) -> Rows:
    """Read a table of a label and numbers in each line."""
    separator = _SEPARATORS[_kind(path)]
    # labels may hold quotation marks, which mean something in comma-separated files only
    lines = (
        list(csv.reader(_read_lines(path), delimiter=separator))
        if separator == ","
        else [line.split(separator) for line in _read_lines(path)]
    )
    if lines and not all(map(_is_number, lines[0][1:])):
        lines = lines[1:]
    widths = {len(line) for line in lines}
    if not lines or len(widths) != 1 or widths == {1}:
        raise ValueError(
            f"{name}={str(path)!r} has {len(lines)} lines of {sorted(widths)} columns; each line needs a label and as "
            f"many numbers as the others."
        )
    try:
        numbers = np.array([line[1:] for line in lines]).astype(np.float32)
    except ValueError as error:
        raise ValueError(
            f"{name}={str(path)!r} holds something else than numbers ({error}). For a table of texts give "
            f"{{'text': {str(path)!r}}}."
        ) from error
    return Rows(torch.from_numpy(numbers), [line[0] for line in lines])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_parquet(name: str, path: pathlib.Path) -> Rows:
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except ImportError as error:
        raise ValueError(f"{name}={str(path)!r} needs pyarrow: pip install pyarrow, or save it as .npz.") from error
    except (ValueError, OSError) as error:
        raise ValueError(f"{name}={str(path)!r} is no readable parquet file ({error}); save it again.") from error
    if isinstance(table.index, pd.RangeIndex):
        table = table.set_index(table.columns[0])
    try:
        numbers = table.to_numpy(dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name}={str(path)!r} holds something else than numbers behind the labels ({error})."
        ) from error
    return Rows(torch.from_numpy(np.ascontiguousarray(numbers)), [str(label) for label in table.index])
