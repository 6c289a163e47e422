"""A record of one training: a file of JSON with all that a table or a page shows of it.

Records of one folder belong together, and are found again by a digest of everything that they depend on.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import re
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from ..utils.storage import content_key

__all__ = [
    "Record",
    "digest_of",
    "find_records",
    "read_record",
]

#: Changes when older files cannot be read any more
FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What one training came to.

    :param label: how its negatives are called
    :param model: the name of the model
    :param seed: the random seed
    :param digest: what it depends on beside the seed, see :func:`digest_of`
    :param dataset: the name and the sizes of the data set
    :param pipeline: the configuration, as ``pykeen.pipeline.pipeline`` takes it
    :param recipe: the recipe that it began with, None for none
    :param metrics: those of the test triples, by name
    :param curve: see :class:`pykeen_dans.inspection.curve.ValidationCurve`
    :param tracked: the values of each metric that the callback logged, by the epoch
    :param negatives: the rows of :func:`pykeen_dans.inspection.negatives.describe`
    :param curriculum: the weight of each band by the epoch
    :param points: entities in two dimensions
    :param difficulty: the degree and the difficulty of entities
    :param environment: the versions and the machine
    """

    label: str
    model: str
    seed: int
    digest: str
    dataset: Mapping[str, Any]
    pipeline: Mapping[str, Any]
    recipe: str | None = None
    metrics: Mapping[str, float]
    curve: Mapping[str, Any]
    tracked: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    negatives: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    curriculum: Mapping[str, Any] | None = None
    points: Mapping[str, Any] | None = None
    difficulty: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The name of its file, which tells what it is."""
        return f"{_slug(self.model)}-{_slug(self.label)}-seed{self.seed}-{self.digest[:8]}.json"

    def write(self, folder: pathlib.Path) -> pathlib.Path:
        """Write the file in one go, so that no reader sees half of it.

        :param folder: the folder, made where it is missing

        :returns: the path
        """
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT, **_plain(dataclasses.asdict(self))}, indent=1, allow_nan=False)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        path = folder / self.file_name
        os.replace(temporary, path)
        return path


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _plain(value: Any) -> Any:
    """Replace what JSON lacks: NaN, which stands for what there is not, by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def digest_of(pipeline: Mapping[str, Any], **parts: Any) -> str:
    """Hash what a training depends on, whatever its seed.

    :param pipeline: the configuration
    :param parts: tensors, as of triples, and whatever else JSON can express

    :returns: 64 hexadecimal digits
    """
    return content_key(pipeline={key: each for key, each in pipeline.items() if key != "random_seed"}, **parts)


def read_record(path: pathlib.Path) -> Record:
    """Read the file of a record.

    :param path: the path

    :returns: the record

    :raises ValueError: if it is none
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError("it is of another version; run `pykeen-dans compare` again")
        return Record(**content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is no record of a training ({error}); give what `pykeen-dans compare` wrote."
        ) from error


def find_records(paths: Iterable[pathlib.Path]) -> list[Record]:
    """Read records.

    :param paths: files, or folders of them

    :returns: the records, in the order of the files' times

    :raises ValueError: if there are none, or if they are not of one data set
    """
    files: list[pathlib.Path] = []
    for path in paths:
        found = sorted(path.glob("*.json"), key=lambda each: each.stat().st_mtime_ns) if path.is_dir() else [path]
        if not found:
            raise ValueError(f"{path} has no records; give a folder that `pykeen-dans compare --output` wrote.")
        files += found
    records = [read_record(path) for path in dict.fromkeys(files)]
    if len(names := sorted({_title(record) for record in records})) > 1:
        raise ValueError(f"The records are of different data sets: {', '.join(names)}; give those of one of them.")
    return records


def _title(record: Record) -> str:
    sizes = record.dataset
    return f"{sizes.get('name')} ({sizes.get('num_triples')} triples)"
