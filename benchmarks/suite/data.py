"""Data sets: loaded once in a process, from PyKEEN's folder, by PyKEEN's downloads, or from files at hand.

Without a network, the environment variable ``PYKEEN_DANS_DATA`` names a folder with
``<title>/{train,valid,test}.txt.xz`` for data sets that PyKEEN has not downloaded yet, and ``text/<title>`` with texts
of entities. The files are unpacked to where PyKEEN looks for them, so that exported experiments run, too.

Synthetic graphs of any size are called ``synthetic`` and the number of entities. Heads, relations and tails each follow
the law of Zipf and Mandelbrot that fits FB15k-237: in relative ranks u, a share of triples in proportion to (u + shift)
** -exponent. They are drawn independently, so that there are more distinct queries than in real graphs.
"""

from __future__ import annotations

import functools
import json
import lzma
import os
import pathlib
from typing import Any

import numpy as np
import torch
from pykeen.constants import PYKEEN_DATASETS
from pykeen.datasets import Dataset, get_dataset
from pykeen.datasets.base import EagerDataset
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import MappedTriples
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD

#: Data sets of this and the number of entities are made up
SYNTHETIC = "synthetic"
#: A quarter of YAGO3-10, which is no data set of PyKEEN's
YAGO = "yago310quarter"
#: name -> title, which is also the name of its folder, and the epochs and batch size of recipes that are not tuned
DATASETS: dict[str, tuple[str, int, int]] = {
    "nations": ("Nations", 60, 128),
    "kinships": ("Kinships", 60, 256),
    "umls": ("UMLS", 60, 256),
    "codexsmall": ("CoDEx-S", 20, 512),
    "family": ("Family", 40, 512),
    "wn18rr": ("WN18RR", 20, 1024),
    "nell995": ("NELL-995", 20, 1024),
    "fb15k237": ("FB15k-237", 8, 1024),
    YAGO: ("YAGO3-10-quarter", 8, 1024),
    "mkgw": ("MKG-W", 15, 1024),
    "mkgy": ("MKG-Y", 15, 1024),
    "db15k": ("DB15K", 15, 1024),
}
_SPLITS = ("train.txt", "valid.txt", "test.txt")
#: What stands for the folder in configurations, whose digest must not depend on the machine
_PLACEHOLDER = "$PYKEEN_DANS_DATA"
#: What stands for the files of :func:`synthetic_features`, before their suffixes, and the number of features
_FEATURES, _NUM_FEATURES = "$SYNTHETIC_FEATURES", 32

#: Exponent and shift of heads, relations and tails of FB15k-237, by maximum likelihood
LAWS = ((0.749, 4.35e-3), (1.663, 5.68e-2), (0.814, 9.56e-5))
NUM_RELATIONS = 237
TRIPLES_PER_ENTITY = 5


def title_of(name: str) -> str:
    """Tell what tables call a data set."""
    return DATASETS[name][0] if name in DATASETS else name


class DataMissingError(OSError):
    """A data set is neither in PyKEEN's folder nor in reach of a download."""


def with_data_folder(value: dict[str, Any]) -> dict[str, Any]:
    """Put the folder of data at hand, and synthetic features, into the pipeline of an experiment.

    :raises DataMissingError: if it is needed, and the environment does not name it
    """
    text = json.dumps(value)
    if _PLACEHOLDER in text and "PYKEEN_DANS_DATA" not in os.environ:
        raise DataMissingError("PYKEEN_DANS_DATA is not set, which its modalities need")
    if _FEATURES in text:
        text = text.replace(_FEATURES, str(synthetic_features(value["dataset"])))
    made: dict[str, Any] = json.loads(text.replace(_PLACEHOLDER, os.environ.get("PYKEEN_DANS_DATA", "")))
    return made


def synthetic_features(name: str) -> pathlib.Path:
    """Make features of a known use, once: what a singular value decomposition tells of the entities from *all* triples.

    They take the place of images, whose encoders cannot be had everywhere. Those of held-out triples are among them, as
    an image may show what a graph does not say.

    :returns: the path of an array (``.npy``) and of the labels of its rows (``.txt``), without these suffixes
    """
    path = PYKEEN_DATASETS / name / "synthetic_features"
    if not all(path.with_suffix(suffix).is_file() for suffix in (".npy", ".txt")):
        dataset = load(name)
        triples = torch.cat([part.mapped_triples for part in dataset.factory_dict.values()]).numpy()
        head, relation, tail = triples.T
        num = dataset.num_entities
        # a column for each query that an entity answers
        columns = np.concatenate([relation * num + head, (dataset.num_relations + relation) * num + tail])
        shape = (num, 2 * dataset.num_relations * num)
        answers = csr_matrix((np.ones(len(columns)), (np.concatenate([tail, head]), columns)), shape=shape)
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = dataset.training.entity_id_to_label
        path.with_suffix(".txt").write_text("".join(f"{labels[index]}\n" for index in range(num)), encoding="utf-8")
        np.save(
            path.with_suffix(".npy"),
            TruncatedSVD(_NUM_FEATURES, random_state=0).fit_transform(answers).astype(np.float32),
        )
    return path


def _unpack(name: str) -> None:
    """Unpack files at hand to where PyKEEN looks for them, where there are some, and none of PyKEEN's."""
    source = pathlib.Path(os.environ.get("PYKEEN_DANS_DATA", "."), title_of(name))
    files = [source / f"{split}.xz" for split in _SPLITS]
    target = PYKEEN_DATASETS / name
    if all(path.is_file() for path in files) and not target.joinpath(_SPLITS[-1]).is_file():
        target.mkdir(parents=True, exist_ok=True)
        for path in files:
            target.joinpath(path.stem).write_bytes(lzma.decompress(path.read_bytes()))


def synthetic_triples(num_entities: int, *, seed: int = 0) -> MappedTriples:
    """Draw distinct triples, in which every entity and relation occurs.

    :raises ValueError: if there are fewer entities than relations
    """
    if num_entities < NUM_RELATIONS:
        raise ValueError(f"num_entities={num_entities} is too small; at least {NUM_RELATIONS} are needed.")
    random = np.random.default_rng(seed)
    columns = []
    for (exponent, shift), size in zip(LAWS, (num_entities, NUM_RELATIONS, num_entities), strict=True):
        weights = ((np.arange(size) + 0.5) / size + shift) ** -exponent
        rest = random.choice(size, size=(TRIPLES_PER_ENTITY - 1) * num_entities, p=weights / weights.sum())
        # once each, so that none of them is missing; ids tell nothing of degrees, nor heads of tails
        columns.append(random.permutation(size)[np.concatenate([np.arange(num_entities) % size, rest])])
    triples = np.unique(np.stack(columns, axis=-1), axis=0)
    return torch.from_numpy(triples[random.permutation(len(triples))])


def synthetic_dataset(num_entities: int, *, create_inverse_triples: bool) -> Dataset:
    """Make a data set, whose evaluation triples are a few of training."""
    triples = synthetic_triples(num_entities)
    sizes: dict[str, Any] = {"num_entities": num_entities, "num_relations": NUM_RELATIONS}
    training = CoreTriplesFactory(triples, **sizes, create_inverse_triples=create_inverse_triples)
    few = CoreTriplesFactory(triples[:8], **sizes)
    return EagerDataset(training=training, testing=few, validation=few)


def load(name: str, *, create_inverse_triples: bool = True, **features: Any) -> Dataset:
    """Load a data set by its name in the names of recipes, with features for those that have some.

    :raises DataMissingError: if it is not on this machine and cannot be downloaded
    """
    return _load(name, create_inverse_triples, json.dumps(features))


@functools.lru_cache(maxsize=2)
def _load(name: str, create_inverse_triples: bool, features: str) -> Dataset:
    """Load a data set, with features in JSON."""
    kwargs = {"create_inverse_triples": create_inverse_triples} | json.loads(features)
    if name.startswith(SYNTHETIC):
        return synthetic_dataset(int(name.removeprefix(SYNTHETIC)), **kwargs)
    _unpack(name)
    try:
        if name == YAGO:
            paths = [str(PYKEEN_DATASETS.joinpath(name, split)) for split in _SPLITS]
            return get_dataset(training=paths[0], validation=paths[1], testing=paths[2], dataset_kwargs=kwargs)
        dataset = get_dataset(dataset=name, dataset_kwargs=kwargs)
        # some are loaded, and downloaded, when they are used first
        _ = dataset.training.num_triples
    # failures of the network (URLError, PyStow's DownloadError, time-outs) are subclasses of it
    except OSError as error:
        raise DataMissingError(f"{name} is not in PyKEEN's folder, and cannot be downloaded: {error}") from error
    return dataset
