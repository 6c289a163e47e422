"""Tests of the data sets, with small files in the published formats, and with the real ones where they are given."""

from __future__ import annotations

import logging
import lzma
import os
import pathlib
import re

import pytest
import torch
from pykeen.datasets import dataset_resolver, get_dataset
from pykeen.datasets.base import Dataset

from pykeen_dans.datasets import DB15K, MKGW, MKGY, NELL995, Family, OpenKEDataset

OPENKE: tuple[type[OpenKEDataset], ...] = (NELL995, DB15K, MKGW, MKGY)

#: A small graph; the labels have characters that careless readers stumble over
ENTITIES = ['<a"b>', "c d", "e\u2028f", "NA", "ünïcode", "g", "h", "i"]
RELATIONS = ["concept:likes", "null"]
TRAIN = [(h, r, (h + 1 + r) % 7) for h in range(7) for r in range(2)]
VALID = [(0, 0, 3), (1, 1, 4)]
#: The last entity does not occur in training triples
TEST = [(2, 0, 5), (3, 1, 6), (2, 1, 7)]


def labeled(triples) -> list[str]:
    """Return the lines of a file with labels."""
    return [f"{ENTITIES[h]}\t{RELATIONS[r]}\t{ENTITIES[t]}" for h, r, t in triples]


def write(path: pathlib.Path, lines: list[str], end: str = "\n") -> None:
    """Write lines into a file."""
    path.write_bytes("".join(f"{line}{end}" for line in lines).encode())


def write_openke(directory: pathlib.Path, separator: str, end: str = "\n") -> None:
    """Write the small graph in the format of OpenKE, with labels in another order than their integers."""
    directory.mkdir()
    for name, labels in (("entity2id", ENTITIES), ("relation2id", RELATIONS)):
        lines = [f"{label}{separator}{index}" for index, label in reversed(list(enumerate(labels)))]
        write(directory / f"{name}.txt", [str(len(labels)), *lines], end)
    for name, triples in (("train2id", TRAIN), ("valid2id", VALID), ("test2id", TEST)):
        # head, tail, relation
        write(directory / f"{name}.txt", [str(len(triples)), *(f"{h} {t} {r}" for h, r, t in triples)], end)


def label_triples(factory) -> set[tuple[str, ...]]:
    """Return the labeled triples of a factory."""
    return set(map(tuple, factory.label_triples(factory.mapped_triples).tolist()))


def label_set(triples) -> set[tuple[str, ...]]:
    """Return labeled triples."""
    return {(ENTITIES[h], RELATIONS[r], ENTITIES[t]) for h, r, t in triples}


@pytest.mark.parametrize("cls", [Family, *OPENKE])
def test_names(cls: type[Dataset]) -> None:
    """The classes are found by their names, and have what PyKEEN shows of them."""
    names = {NELL995: "NELL-995", MKGW: "mkg-w", MKGY: "mkg_y"}
    assert dataset_resolver.lookup(names.get(cls, cls.__name__)) is cls
    statistics = cls.docdata("statistics")
    assert statistics["triples"] == sum(statistics[key] for key in ("training", "testing", "validation"))
    assert {"author", "year", "link"} <= set(cls.docdata("citation"))
    # addresses do not change: they name a commit
    assert re.search(r"/[0-9a-f]{40}/", cls.source_url)


@pytest.mark.parametrize(("separator", "end"), [("\t", "\n"), (" ", "\n"), ("\t", "\r\n")])
@pytest.mark.parametrize("cls", OPENKE)
def test_openke(cls: type[OpenKEDataset], separator: str, end: str, tmp_path: pathlib.Path) -> None:
    """Files in the format of OpenKE are decoded into labels."""
    write_openke(tmp_path / "source", separator=separator, end=end)
    kwargs = dict(validation="published") if cls is DB15K else {}
    dataset = cls(cache_root=tmp_path, source_url=(tmp_path / "source").as_uri(), **kwargs)
    assert label_triples(dataset.training) == label_set(TRAIN)
    assert label_triples(dataset.validation) == label_set(VALID)
    assert label_triples(dataset.testing) == label_set(TEST[:2])
    directory = tmp_path / cls.__name__.lower()
    assert (directory / "train.txt").read_text(encoding="utf-8").split("\n")[:-1] == labeled(TRAIN)
    assert (directory / "entities.txt").read_text(encoding="utf-8").split("\n")[:-1] == ENTITIES
    names = {"entities.txt", "relations.txt", "train.txt", "valid.txt", "test.txt"}
    assert {path.name for path in directory.iterdir()} == names


def test_family(tmp_path: pathlib.Path) -> None:
    """The training triples of Family are those of two files."""
    source = tmp_path / "source"
    source.mkdir()
    write(source / "facts.txt", ["1\tfather\t2", "2\tson\t1"])
    write(source / "train.txt", ["1\tuncle\t3"])
    write(source / "valid.txt", ["3\tuncle\t2"])
    write(source / "test.txt", ["2\tfather\t3", "9\tfather\t1"])
    dataset = Family(cache_root=tmp_path, source_url=source.as_uri(), create_inverse_triples=True)
    assert label_triples(dataset.training) == {("1", "father", "2"), ("2", "son", "1"), ("1", "uncle", "3")}
    assert label_triples(dataset.testing) == {("2", "father", "3")}
    assert dataset.validation is not None and dataset.validation.num_triples == 1
    assert dataset.training.create_inverse_triples and not dataset.testing.create_inverse_triples
    assert (tmp_path / "family" / "train.txt").read_text() == "1\tfather\t2\n2\tson\t1\n1\tuncle\t3\n"


def test_no_download_where_files_are(tmp_path: pathlib.Path) -> None:
    """With the decoded files in place, no address is asked; when one is missing, all are made anew."""
    directory = tmp_path / "mkgw"
    directory.mkdir()
    for name, triples in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        write(directory / f"{name}.txt", labeled(triples))
    nowhere = (tmp_path / "nowhere").as_uri()
    assert label_triples(MKGW(cache_root=tmp_path, source_url=nowhere, eager=True).training) == label_set(TRAIN)

    (directory / "valid.txt").unlink()
    # the publisher's error, of pystow, or of urllib
    with pytest.raises(OSError):
        MKGW(cache_root=tmp_path, source_url=nowhere)
    # a failed attempt leaves nothing behind
    assert {path.name for path in directory.iterdir()} == {"train.txt", "test.txt"}

    write_openke(tmp_path / "source", separator="\t")
    dataset = MKGW(cache_root=tmp_path, source_url=(tmp_path / "source").as_uri())
    assert label_triples(dataset.validation) == label_set(VALID)


def test_force(tmp_path: pathlib.Path) -> None:
    """With force, the files are decoded again."""
    write_openke(tmp_path / "source", separator="\t")
    url = (tmp_path / "source").as_uri()
    MKGY(cache_root=tmp_path, source_url=url)
    write(tmp_path / "mkgy" / "train.txt", labeled(TRAIN[:1]))
    assert MKGY(cache_root=tmp_path, source_url=url).training.num_triples == 1
    assert MKGY(cache_root=tmp_path, source_url=url, force=True).training.num_triples == len(TRAIN)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train2id.txt", "3\n0 1 0\n", "train2id.txt announces '3' lines, but has 1.*source_url"),
        ("valid2id.txt", "", "valid2id.txt announces '' lines"),
        ("entity2id.txt", "1\na\t7\n", "entity2id.txt does not number its labels from 0"),
    ],
)
def test_incomplete_download(name: str, content: str, message: str, tmp_path: pathlib.Path) -> None:
    """An incomplete file is refused, and no decoded file is left behind."""
    write_openke(tmp_path / "source", separator="\t")
    (tmp_path / "source" / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        NELL995(cache_root=tmp_path, source_url=(tmp_path / "source").as_uri())
    assert not list((tmp_path / "nell995").iterdir())


def test_incomplete_family(tmp_path: pathlib.Path) -> None:
    """A line that was cut off is refused with its number."""
    for name in ("facts.txt", "train.txt", "valid.txt", "test.txt"):
        write(tmp_path / name, ["1\tfather\t2", "1\tfat"])
    with pytest.raises(ValueError, match=r"Line 2 of facts.txt has 2 columns"):
        Family(cache_root=tmp_path, source_url=tmp_path.as_uri())


def test_checksum(tmp_path: pathlib.Path, monkeypatch, caplog) -> None:
    """Files from the publisher that differ from the documented version are used with a warning."""
    write_openke(tmp_path / "source", separator="\t")
    monkeypatch.setattr(MKGW, "source_url", (tmp_path / "source").as_uri())
    with caplog.at_level(logging.WARNING):
        MKGW(cache_root=tmp_path)
    assert "train.txt of MKGW has the SHA-256" in caplog.text


def test_db15k_held_out(tmp_path: pathlib.Path) -> None:
    """By default, DB15K's validation triples are a seeded part of the training triples."""
    write_openke(tmp_path / "source", separator=" ")
    kwargs = dict(cache_root=tmp_path, source_url=(tmp_path / "source").as_uri())
    dataset = DB15K(**kwargs)
    train, valid = label_triples(dataset.training), label_triples(dataset.validation)
    assert valid
    assert not train & valid
    assert train | valid == label_set(TRAIN)
    # test triples are untouched, and the training triples have all entities and relations
    assert label_triples(dataset.testing) == label_set(TEST[:2])
    assert dataset.training.mapped_triples[:, [0, 2]].unique().numel() == dataset.num_entities == 7
    assert dataset.training.mapped_triples[:, 1].unique().numel() == dataset.num_relations == 2
    # the access to validation before training makes no difference, and neither does repetition
    again = DB15K(**kwargs)
    assert again.validation is not None and dataset.validation is not None
    assert torch.equal(again.validation.mapped_triples, dataset.validation.mapped_triples)
    assert torch.equal(again.training.mapped_triples, dataset.training.mapped_triples)
    others = [DB15K(random_state=seed, eager=True, **kwargs) for seed in range(1, 6)]
    assert any(label_triples(other.validation) != valid for other in others)


def test_db15k_published(tmp_path: pathlib.Path, caplog) -> None:
    """DB15K's published validation split comes with a warning, and an unknown choice is refused."""
    write_openke(tmp_path / "source", separator=" ")
    kwargs = dict(cache_root=tmp_path, source_url=(tmp_path / "source").as_uri())
    with caplog.at_level(logging.WARNING):
        DB15K(**kwargs)
        assert not caplog.records
        dataset = DB15K(validation="published", **kwargs)
    assert "overlaps" in caplog.text
    assert label_triples(dataset.training) == label_set(TRAIN)
    with pytest.raises(ValueError, match=r"validation='test' is unknown.*held-out.*published"):
        DB15K(validation="test", **kwargs)  # type: ignore[arg-type]


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


def test_get_dataset(tmp_path: pathlib.Path) -> None:
    """PyKEEN's own function resolves and makes our data sets."""
    write_openke(tmp_path / "source", separator="\t")
    url = (tmp_path / "source").as_uri()
    # an instance of the class is asked for, since a name would be cached in the user's directory
    dataset = get_dataset(dataset=MKGW(cache_root=tmp_path, source_url=url))
    assert dataset.get_normalized_name() == "mkgw"
