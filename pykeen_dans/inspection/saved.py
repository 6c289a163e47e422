"""Reading what PyKEEN has saved of a training, without running code unless that is asked for."""

from __future__ import annotations

import pathlib
import pickle
from typing import Any

import torch
from pykeen.models import Model
from pykeen.pipeline import PipelineResult
from pykeen.triples import CoreTriplesFactory, TriplesFactory
from pykeen.typing import MappedTriples

from ..utils.tables import nearest, read_table

__all__ = [
    "read_directory",
]

_MODEL, _TRIPLES = PipelineResult.MODEL_FILE_NAME, PipelineResult.TRAINING_TRIPLES_FILE_NAME


def read_directory(path: pathlib.Path, *, trust: bool, with_model: bool) -> tuple[CoreTriplesFactory, Model | None]:
    """Read the training triples and the model of a directory.

    :param path: the directory, as saved by ``PipelineResult.save_to_directory``
    :param trust: whether the model, which is a pickle and can run any code, is to be read nevertheless
    :param with_model: whether the model is needed

    :returns: the training triples, and the model where it is needed

    :raises ValueError: if there is no such directory, if a file is missing or damaged, or if the model is needed and
        not trusted
    """
    if not path.is_dir():
        siblings = [each.name for each in path.absolute().parent.glob("*/")]
        raise ValueError(f"directory={str(path)!r} is no directory{nearest(path.name, siblings)}; check the path.")
    for name in (_TRIPLES, _MODEL) if with_model else (_TRIPLES,):
        if not path.joinpath(name).exists():
            raise ValueError(
                f"directory={str(path)!r} has no {name}; give a directory that PyKEEN has saved, by "
                f"result.save_to_directory(...) or pykeen train --output-directory."
            )
    factory = _read_triples(path / _TRIPLES)
    if not with_model:
        return factory, None
    if not trust:
        raise ValueError(
            f"{path / _MODEL} is a pickle, which can run any code as it is read; say trust=True (--trust) if you trust "
            f"whoever made it, or pass the model."
        )
    model: Any = torch.load(path / _MODEL, map_location="cpu", weights_only=False)
    if not isinstance(model, Model):
        raise ValueError(f"{path / _MODEL} is a {type(model).__name__}, and no model of PyKEEN.")
    return factory, model


def _read_triples(path: pathlib.Path) -> CoreTriplesFactory:
    """Read training triples. PyKEEN's own reader would run code of the file."""
    try:
        with torch.serialization.safe_globals([pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath]):
            state: Any = torch.load(path / CoreTriplesFactory.base_file_name, weights_only=True)
    except (pickle.UnpicklingError, OSError, EOFError, RuntimeError) as error:
        raise ValueError(
            f"{path / CoreTriplesFactory.base_file_name} cannot be read without running code that it may hold "
            f"({str(error).splitlines()[0]:.100}); if you trust it, read it by "
            f"TriplesFactory.from_path_binary(...), and pass triples_factory and the model."
        ) from error
    triples = read_table("triples", path / CoreTriplesFactory.triples_file_name)
    options = {
        "mapped_triples": _as_ids(triples),
        "create_inverse_triples": state["create_inverse_triples"],
        "metadata": state["metadata"],
    }
    names = (TriplesFactory.file_name_entity_to_id, TriplesFactory.file_name_relation_to_id)
    files = [path / f"{name}.tsv.gz" for name in names]
    if not all(each.is_file() for each in files):
        return CoreTriplesFactory(num_entities=state["num_entities"], num_relations=state["num_relations"], **options)
    mappings = [read_table("labels", each) for each in files]
    entity_to_id, relation_to_id = (dict(zip(each["label"], each["id"].astype(int), strict=True)) for each in mappings)
    return TriplesFactory(entity_to_id=entity_to_id, relation_to_id=relation_to_id, **options)


def _as_ids(table: Any) -> MappedTriples:
    return torch.as_tensor(table.astype(int).to_numpy(copy=True))
