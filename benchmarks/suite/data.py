"""Data sets: loaded once in a process, from PyKEEN's cache, or by PyKEEN's downloads.

The folder in the environment variable ``PYKEEN_DANS_DATA`` may hold data sets as ``<name>/{train,valid,test}.txt[.xz]``
for machines without a network. It is asked for what PyKEEN has no name for, and for our own data sets that are not in
PyKEEN's cache yet.
"""

from __future__ import annotations

import functools
import logging
import os
import pathlib

import torch
from pykeen.datasets import Dataset, get_dataset
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import MappedTriples

from pykeen_dans.inspection.diagnostics import as_trained

__all__ = [
    "DataMissingError",
    "load",
    "local_folder",
    "training_factory",
]

logger = logging.getLogger(__name__)

_SPLITS = {"training": "train", "testing": "test", "validation": "valid"}
#: The folders of data sets that PyKEEN cannot fetch without a network
_FOLDERS = {"family": "Family", "yago310quarter": "YAGO3-10-quarter"}


class DataMissingError(OSError):
    """A data set is neither in PyKEEN's cache nor in reach of a download."""


def local_folder(name: str) -> pathlib.Path | None:
    """Find the folder of a data set below ``PYKEEN_DANS_DATA``.

    :param name: the data set, as in the names of recipes

    :returns: the folder, or None where there is none
    """
    root = os.environ.get("PYKEEN_DANS_DATA")
    if root is None or name not in _FOLDERS:
        return None
    folder = pathlib.Path(root).joinpath(_FOLDERS[name])
    return folder if folder.is_dir() else None


@functools.lru_cache(maxsize=2)
def load(name: str, *, create_inverse_triples: bool = True) -> Dataset:
    """Load a data set.

    :param name: the data set, as in the names of recipes
    :param create_inverse_triples: whether training has inverse triples

    :returns: the data set

    :raises DataMissingError: if it is not on this machine and cannot be downloaded
    """
    kwargs = {"create_inverse_triples": create_inverse_triples}
    folder = local_folder(name)
    if folder is not None:
        files = {split: next(folder.glob(f"{stem}.txt*"), None) for split, stem in _SPLITS.items()}
        if all(files.values()):
            return get_dataset(**{split: str(path) for split, path in files.items()}, dataset_kwargs=kwargs)
    try:
        dataset = get_dataset(dataset=name, dataset_kwargs=kwargs)
        # some are loaded, and downloaded, when they are used first
        _ = dataset.training.num_triples
    # failures of the network (URLError, PyStow's DownloadError, time-outs) are subclasses of it
    except OSError as error:
        raise DataMissingError(f"{name} is not in PyKEEN's cache, and cannot be downloaded: {error}") from error
    return dataset


def training_factory(triples: MappedTriples, *, num_entities: int, num_relations: int) -> CoreTriplesFactory:
    """Make a factory of synthetic triples.

    :param triples: shape: (n, 3) the triples
    :param num_entities: the number of entities
    :param num_relations: the number of relations

    :returns: the factory
    """
    return CoreTriplesFactory(mapped_triples=triples, num_entities=num_entities, num_relations=num_relations)


def training_triples(name: str) -> tuple[torch.Tensor, int, int]:
    """Get the triples that a sampler sees in a training with inverse triples.

    :param name: the data set

    :returns: shape: (n, 3) the triples, and the numbers of entities and of relations
    """
    training = load(name).training
    return as_trained(training), training.num_entities, training.num_relations
