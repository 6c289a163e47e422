"""Tables, from files or from memory, and names that are like others."""

from __future__ import annotations

import difflib
import json
import lzma
import os
import pathlib
import zlib
from collections.abc import Collection
from typing import Any

import pandas as pd

__all__ = [
    "check_suffix",
    "nearest",
    "read_names",
    "read_table",
    "write_table",
]

#: What pandas compresses and decompresses on the way
_COMPRESSED = (".gz", ".xz", ".bz2")
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
#: What pandas and pyarrow raise of files that are damaged, or of another format
_DAMAGE = (ValueError, OSError, EOFError, ImportError, LookupError, RuntimeError, TypeError, zlib.error, lzma.LZMAError)
_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")


def nearest(value: object, valid: Collection[object]) -> str:
    """Tell the valid names that are like an invalid one.

    :param value: the invalid name
    :param valid: the valid names

    :returns: a remark in parentheses, with a space before it, or nothing where no name is alike
    """
    found = difflib.get_close_matches(str(value), [str(each) for each in valid], n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(map(repr, found))}?)" if found else ""


def check_suffix(name: str, path: str | os.PathLike[str]) -> str:
    """Tell the kind of a table by its name, that of the inner file where it is compressed.

    :param name: the argument's name, for errors
    :param path: the file

    :returns: the suffix

    :raises ValueError: if it is unknown
    """
    pure = pathlib.PurePath(path)
    suffix = pathlib.PurePath(pure.stem if pure.suffix in _COMPRESSED else pure).suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(
            f"{name}={os.fspath(path)!r} has the suffix {suffix!r}; choose one of {', '.join(_SUFFIXES)}, plain or "
            f"compressed."
        )
    return suffix


def read_table(name: str, value: Any, *, header: bool = True) -> pd.DataFrame:
    """Read a table, whose cells are strings where it comes from text.

    :param name: the argument's name, for errors
    :param value: a path whose suffix tells the format, ``.csv``, ``.tsv``, ``.txt`` or ``.parquet``; or a data frame
    :param header: whether the first line of a text names the columns

    :returns: the table. Nothing in it is taken for a missing value, as pandas would do with the label ``NA``.

    :raises ValueError: if there is no such file, or it is no table
    """
    if isinstance(value, pd.DataFrame):
        return value
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{name} is a {type(value).__name__}; give the path of a table, or a data frame.")
    suffix = check_suffix(name, value)
    path = pathlib.Path(value).expanduser()
    if not path.is_file():
        raise ValueError(f"{name}={os.fspath(value)!r} is no file (looked from {pathlib.Path.cwd()}); check the path.")
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(
            path,
            sep=_SEPARATORS[suffix],
            header=0 if header else None,
            dtype=str,
            na_filter=False,
            encoding="utf-8-sig",
        )
    except _DAMAGE as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise ValueError(
            f"{name}={os.fspath(value)!r} cannot be read as {suffix} ({reason}); save it again."
        ) from error


def read_names(name: str, path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the readable names of labels.

    :param name: the argument's name, for errors
    :param path: a ``.json`` file with a mapping from labels to names, or to mappings with a ``"label"`` as CoDEx has
        them; or a table without a header, of a label and a name in each line

    :returns: the name of each label

    :raises ValueError: if the file has another form
    """
    if pathlib.PurePath(path).suffix.lower() != ".json":
        table = read_table(name, path, header=False)
        if table.shape[1] < 2:
            raise ValueError(f"{name}={os.fspath(path)!r} has one column; give a label and a name in each line.")
        return dict(zip(table.iloc[:, 0].astype(str), table.iloc[:, 1].astype(str), strict=True))
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    # JSON and UTF-8 that are none raise subclasses of it
    except (ValueError, OSError) as error:
        raise ValueError(f"{name}={os.fspath(path)!r} cannot be read as JSON ({error}); save it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{name}={os.fspath(path)!r} is no mapping; give {{'label': 'name', ...}}.")
    return {
        label: str(value.get("label", label) if isinstance(value, dict) else value) for label, value in content.items()
    }


def write_table(name: str, frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table such that :func:`read_table` reads the same labels.

    :param name: the argument's name, for errors
    :param frame: the table
    :param path: the file, whose suffix tells the format

    :raises ValueError: if the suffix is unknown
    """
    suffix = check_suffix(name, path)
    if suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, sep=_SEPARATORS[suffix], index=False)
