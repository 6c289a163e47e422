"""Data sets for commands: by the names that PyKEEN knows, from a folder of data, or from files of triples.

A file of triples has a head, a relation and a tail in each line, with tabs between them. It is split into training,
validation and test triples, always in the same way. A folder has the three of them in files of their own.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import socket
from collections.abc import Iterator
from unittest import mock

import click
import numpy as np
import torch
from pykeen.datasets import Dataset, dataset_resolver, get_dataset
from pykeen.datasets.base import EagerDataset
from pykeen.triples import TriplesFactory
from pykeen.triples.utils import load_triples
from pykeen.typing import LabeledTriples, MappedTriples

from ..experiments import recipe_names
from ..utils.triples import as_trained
from ..utils.validation import unknown_name

__all__ = [
    "DATASETS",
    "DEFAULT",
    "FALLBACK",
    "MODEL",
    "SHARED_RECIPE",
    "held_out_triples",
    "load_dataset",
    "load_default",
    "plain_name",
]

logger = logging.getLogger(__name__)

#: The data set of the demonstration, and the one that ships with PyKEEN, where the first cannot be downloaded
DEFAULT, FALLBACK = "codexsmall", "umls"
MODEL = "complex"
#: The recipes of the loops that share negatives end in the loss that they were tuned for
SHARED_RECIPE = "-crossentropy"
DATASETS = [
    name.removesuffix(f"-{MODEL}{SHARED_RECIPE}")
    for name in recipe_names()
    if name.endswith(f"-{MODEL}{SHARED_RECIPE}")
]
#: How long to wait for a server that does not answer
_TIMEOUT_SECONDS = 20.0
_SPLITS = ("train", "valid", "test")
#: What the files of a folder may end in; pandas unpacks them
_ENDINGS = [f"{kind}{packed}" for kind in (".txt", ".tsv") for packed in ("", ".xz", ".gz", ".bz2")]
#: Names that data sets have beside those of PyKEEN
_ALIASES = {"codexs": "codexsmall", "codexm": "codexmedium", "codexl": "codexlarge"}
#: What is held out of a single file, for validation and for the test
_HELD_OUT = 0.1


def plain_name(name: str) -> str:
    """Write the name of a data set as in the names of recipes: CoDEx-S is codexsmall.

    :param name: the name

    :returns: the same for all ways to write it
    """
    plain = dataset_resolver.normalize(name)
    return _ALIASES.get(plain, plain)


def load_dataset(
    name: str, *, inverse: bool = True, data_folder: pathlib.Path | None = None, offline: bool = False
) -> Dataset:
    """Load a data set.

    :param name: the name of a data set, or the path of a file of triples, or of a folder with three of them
    :param inverse: whether training has inverse triples
    :param data_folder: a folder of data sets, each a folder with its name, which go before those of PyKEEN's
    :param offline: whether to download nothing

    :returns: the data set

    :raises ValueError: if there is none of this name, or if its triples cannot be used
    :raises OSError: if it cannot be read or downloaded
    """
    path = pathlib.Path(name)
    if not path.exists() and data_folder is not None:
        path = _folders(data_folder).get(plain_name(name), path)
    if path.exists():
        return _from_files(path, inverse=inverse)
    if path.suffix or len(path.parts) > 1:
        raise OSError(f"--dataset={name} is neither a file nor a folder, nor the name of a data set.")
    known = {*dataset_resolver.lookup_dict, *(_folders(data_folder) if data_folder else ())}
    if plain_name(name) not in known:
        raise unknown_name("--dataset", name, known)
    return _from_pykeen(plain_name(name), inverse=inverse, offline=offline)


def _folders(data_folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Find the data sets in a folder, by their normalised names."""
    return {
        plain_name(path.name): path
        for path in sorted(data_folder.iterdir())
        if path.is_dir() and all(_split_of(path, split) for split in _SPLITS)
    }


def _split_of(folder: pathlib.Path, split: str) -> pathlib.Path | None:
    """Find the file of training, validation or test triples."""
    return next((path for ending in _ENDINGS if (path := folder / f"{split}{ending}").is_file()), None)


def _read(path: pathlib.Path) -> LabeledTriples:
    """Read labeled triples, shape: (n, 3).

    :raises ValueError: if there are none, or if a line has not three columns
    """
    try:
        triples = load_triples(path)
    # errors of pandas' parser, and texts that are none, are subclasses of it
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as triples: {' '.join(str(error).split())}") from error
    # pandas takes what is missing in a line for an empty label
    if triples.ndim != 2 or triples.shape[1] != 3 or not all(triples.flat):
        raise ValueError(
            f"{path} has {triples.shape[-1]} columns, or shorter lines; each line needs a head, a relation and "
            f"a tail, with tabs between them."
        )
    return triples.astype(str)


def _from_files(path: pathlib.Path, *, inverse: bool) -> Dataset:
    """Load a data set from a file, or from a folder with three files."""
    if path.is_file():
        factory = TriplesFactory.from_labeled_triples(_read(path))
        parts = factory.split([1 - 2 * _HELD_OUT, _HELD_OUT, _HELD_OUT], random_state=0)
        training, validation, testing = parts
        if inverse:
            training = training.clone_and_exchange_triples(training.mapped_triples, create_inverse_triples=True)
    else:
        files = [_split_of(path, split) for split in _SPLITS]
        if missing := [split for split, file in zip(_SPLITS, files, strict=True) if file is None]:
            raise ValueError(
                f"{path} has no file {missing[0]}.txt or {missing[0]}.tsv, packed or not; it needs all three."
            )
        first, *others = [_read(file) for file in files if file is not None]
        training = TriplesFactory.from_labeled_triples(first, create_inverse_triples=inverse)
        validation, testing = [
            _with_labels_of(training, triples, file) for triples, file in zip(others, files[1:], strict=True)
        ]
    name = path.name.partition(".")[0]
    return EagerDataset(training=training, validation=validation, testing=testing, metadata={"name": name})


def _with_labels_of(training: TriplesFactory, triples: LabeledTriples, path: pathlib.Path | None) -> TriplesFactory:
    """Make validation or test triples, with the ids of training.

    :raises ValueError: if training lacks a label
    """
    for kind, labels, known in (
        ("entity", np.unique(triples[:, [0, 2]]), training.entity_to_id),
        ("relation", np.unique(triples[:, 1]), training.relation_to_id),
    ):
        if unknown := [label for label in labels.tolist() if label not in known]:
            raise ValueError(
                f"{path} has {len(unknown)} labels of kind {kind} that no training triple has, e.g. {unknown[0]!r}; "
                f"leave these triples out, since nothing can be learned of them."
            )
    return TriplesFactory.from_labeled_triples(
        triples, entity_to_id=training.entity_to_id, relation_to_id=training.relation_to_id
    )


@contextlib.contextmanager
def _network(offline: bool) -> Iterator[None]:
    """Wait for no server for long, or ask none at all."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("--offline forbids downloads")

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        # whatever is downloaded, an address has to be found first
        with mock.patch("socket.getaddrinfo", refuse) if offline else contextlib.nullcontext():
            yield
    finally:
        socket.setdefaulttimeout(before)


def _from_pykeen(name: str, *, inverse: bool, offline: bool) -> Dataset:
    with _network(offline):
        try:
            dataset = get_dataset(dataset=name, dataset_kwargs={"create_inverse_triples": inverse})
            # some data sets are loaded when they are used first
            logger.info("%s", dataset.summary_str())
        # failures of the network (URLError, PyStow's DownloadError, time-outs) are subclasses, and so is a full disk
        except OSError as error:
            raise OSError(
                f"--dataset={name} cannot be downloaded ({error}); check the network, give a --data-folder that has "
                f"it, or use --dataset={FALLBACK}, which ships with PyKEEN."
            ) from error
    return dataset


def load_default(
    name: str | None, *, data_folder: pathlib.Path | None = None, offline: bool = False
) -> tuple[str, Dataset]:
    """Load a data set; without a name, the demonstration's, or else one that needs no download.

    :param name: the name, see :func:`load_dataset`
    :param data_folder: a folder of data sets
    :param offline: whether to download nothing

    :returns: the name, and the data set
    """
    chosen = name or DEFAULT
    try:
        return chosen, load_dataset(chosen, data_folder=data_folder, offline=offline)
    except OSError as error:
        if name is not None:
            raise
        click.secho(f"Using {FALLBACK} instead: {error}", fg="yellow", err=True)
        return FALLBACK, load_dataset(FALLBACK)


def held_out_triples(dataset: Dataset) -> MappedTriples:
    """Get the triples of validation and test, in the ids of training."""
    others = [factory.mapped_triples for factory in (dataset.validation, dataset.testing) if factory is not None]
    return as_trained(dataset.training, torch.cat(others))
