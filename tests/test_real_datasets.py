"""The data sets with the real files, where they are given."""

from __future__ import annotations

import logging
import lzma
import os
import pathlib

import pytest
import torch
from pykeen.datasets.base import Dataset

from pykeen_dans.datasets import DB15K, MKGW, MKGY, NELL995, Family, MultimodalDataset, OpenKEDataset
from pykeen_dans.multimodal import load_modalities


def write(path: pathlib.Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


#: The folders of the real files
FOLDERS = {Family: "Family", NELL995: "NELL-995", DB15K: "DB15K", MKGW: "MKG-W", MKGY: "MKG-Y"}


@pytest.fixture
def real_data() -> pathlib.Path:
    """Return the directory of the real files: compressed, decoded splits in one folder for each data set."""
    default = pathlib.Path(__file__).parents[2].joinpath("shared", "data")
    path = pathlib.Path(os.environ.get("PYKEEN_DANS_DATA", default))
    if not path.is_dir():
        pytest.skip(f"no real files at {path}; set PYKEEN_DANS_DATA to their directory")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("cls", FOLDERS)
def test_statistics(cls: type[Dataset], real_data: pathlib.Path, tmp_path: pathlib.Path, caplog) -> None:
    """The documented statistics and checksums are those of the real files."""
    source, target = real_data / FOLDERS[cls], tmp_path / cls.__name__.lower()
    if not source.is_dir():
        pytest.skip(f"{source} is missing")
    target.mkdir()
    for path in source.glob("*.txt.xz"):
        target.joinpath(path.stem).write_bytes(lzma.decompress(path.read_bytes()))
    dataset = cls(cache_root=tmp_path)
    with caplog.at_level(logging.WARNING):
        for path in target.glob("*.txt"):
            dataset._verify(path)
    assert not caplog.records
    assert dataset.validation is not None
    numbers = dict(
        entities=dataset.num_entities,
        relations=dataset.num_relations,
        training=dataset.training.num_triples,
        testing=dataset.testing.num_triples,
        validation=dataset.validation.num_triples,
    )
    assert cls.docdata("statistics") == dict(triples=sum(list(numbers.values())[2:]), **numbers)
    # the training triples have all entities and relations
    assert dataset.training.mapped_triples[:, [0, 2]].unique().numel() == dataset.num_entities
    assert dataset.training.mapped_triples[:, 1].unique().numel() == dataset.num_relations


@pytest.mark.slow
@pytest.mark.parametrize("create_inverse_triples", [False, True])
def test_real_held_out(create_inverse_triples: bool, real_data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The real DB15K: validation triples are neither trained on, nor tested, and the published ones are both."""
    if not (real_data / "DB15K").is_dir():
        pytest.skip(f"{real_data / 'DB15K'} is missing")
    (tmp_path / "db15k").mkdir()
    for path in (real_data / "DB15K").glob("*.txt.xz"):
        (tmp_path / "db15k" / path.stem).write_bytes(lzma.decompress(path.read_bytes()))
    counts = {}
    for validation in ("held-out", "published"):
        dataset = DB15K(cache_root=tmp_path, validation=validation, create_inverse_triples=create_inverse_triples)
        train, test, valid = (
            set(map(tuple, factory.mapped_triples.tolist()))
            for factory in (dataset.training, dataset.testing, dataset.validation)
        )
        assert not train & test
        assert dataset.training.create_inverse_triples == create_inverse_triples
        counts[validation] = (len(valid & train), len(valid & test))
    # PyKEEN drops 4 of the 824 published ones that are test triples, since training lacks an entity of them
    assert counts == {"held-out": (0, 0), "published": (6584, 820)}


@pytest.mark.slow
@pytest.mark.parametrize("cls", [DB15K, MKGW, MKGY])
def test_real_text(cls: type[MultimodalDataset], real_data: pathlib.Path, tmp_path, isolated_cache) -> None:
    """The real tables of texts cover all entities, and the real order of rows is that of the entities' integers."""
    text = real_data / "text" / FOLDERS[cls] / "entity_text.tsv.xz"
    if not text.is_file():
        pytest.skip(f"{text} is missing")
    (tmp_path / cls.__name__.lower()).mkdir()
    for path in (real_data / FOLDERS[cls]).glob("*.txt.xz"):
        (tmp_path / cls.__name__.lower() / path.stem).write_bytes(lzma.decompress(path.read_bytes()))
    order = (tmp_path / cls.__name__.lower() / "entities.txt").read_text(encoding="utf-8").split("\n")[:-1]
    torch.save(torch.arange(1.0, 1 + len(order))[:, None], tmp_path / "visual.pth")
    dataset = cls(cache_root=tmp_path, textual=dict(text=str(text)), visual=str(tmp_path / "visual.pth"))
    ids = dataset.training.entity_to_id
    textual, visual = load_modalities(dataset.modalities, num_entities=len(ids), entity_to_id=ids)
    assert textual.dim == 128
    assert textual.coverage > 0.999
    assert all(order[int(visual.features[index]) - 1] == label for label, index in ids.items())


@pytest.mark.slow
@pytest.mark.parametrize("cls", [DB15K, MKGY])
def test_real_round_trip(cls: type[OpenKEDataset], real_data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Real labels survive the encoding into OpenKE's format and back, byte by byte."""
    source, raw = real_data / FOLDERS[cls], tmp_path / "raw"
    if not source.is_dir():
        pytest.skip(f"{source} is missing")
    raw.mkdir()
    content = {path.stem: lzma.decompress(path.read_bytes()) for path in source.glob("*.txt.xz")}
    lines = {name: text.decode().split("\n")[:-1] for name, text in content.items()}
    index = {}
    for name in ("entities.txt", "relations.txt"):
        index[name] = {label: str(i) for i, label in enumerate(lines[name])}
    for name, target in (("entities.txt", "entity2id.txt"), ("relations.txt", "relation2id.txt")):
        write(raw / target, [str(len(lines[name])), *(f"{label} {i}" for label, i in index[name].items())])
    for name in ("train", "valid", "test"):
        triples = [line.split("\t") for line in lines[f"{name}.txt"]]
        heads, relations, tails = zip(*triples, strict=True)
        columns = [
            [index["entities.txt"][label] for label in heads],
            [index["entities.txt"][label] for label in tails],
            [index["relations.txt"][label] for label in relations],
        ]
        encoded = [" ".join(row) for row in zip(*columns, strict=True)]
        write(raw / f"{name}2id.txt", [str(len(encoded)), *encoded])
    cls(cache_root=tmp_path, source_url=raw.as_uri())
    for name, text in content.items():
        assert (tmp_path / cls.__name__.lower() / name).read_bytes() == text
