"""Tests of the data sets, with small files in the published formats, and with the real ones where they are given."""

from __future__ import annotations

import json
import logging
import pathlib
import re

import pytest
import torch
from pykeen.datasets import dataset_resolver, get_dataset
from pykeen.datasets.base import Dataset
from pykeen.pipeline import pipeline

from pykeen_dans.datasets import DB15K, MKGW, MKGY, NELL995, Family, MultimodalDataset, OpenKEDataset
from pykeen_dans.multimodal import attached_modalities, load_modalities
from pykeen_dans.multimodal.representation import MultimodalRepresentation

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
        ("test2id.txt", "1\n0 99 0\n", "cannot be decoded.*NELL995.*source_url"),
        ("test2id.txt", "1\n0 -1 0\n", "cannot be decoded.*NELL995.*source_url"),
        ("test2id.txt", "1\n0 1\n", "cannot be decoded.*NELL995.*source_url"),
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
    with pytest.raises(ValueError, match="random_state=-1"):
        DB15K(random_state=-1, **kwargs)
    with pytest.raises(TypeError, match="unheard_of"):
        DB15K(unheard_of=1, **kwargs)


def test_db15k_published_from_cache(tmp_path: pathlib.Path, monkeypatch, caplog) -> None:
    """The warning comes again where PyKEEN takes the data set from its cache, without our constructor."""
    monkeypatch.setattr("pykeen.datasets.utils.PYKEEN_DATASETS", tmp_path / "pykeen")
    write_openke(tmp_path / "source", separator=" ")
    kwargs = dict(cache_root=str(tmp_path), source_url=(tmp_path / "source").as_uri())
    for validation, warned in (("published", True), ("held-out", False)):
        for _ in range(2):
            caplog.clear()
            dataset = get_dataset(dataset="db15k", dataset_kwargs=dict(validation=validation, **kwargs))
            assert ("overlaps" in caplog.text) == warned
            assert dataset.get_normalized_name() == "db15k"
            assert dataset.metadata["validation"] == validation
    # the second time, it came from the cache
    assert not isinstance(dataset, DB15K)
    assert len(list((tmp_path / "pykeen" / "db15k" / "cache").iterdir())) == 2


MULTIMODAL: tuple[type[MultimodalDataset], ...] = (DB15K, MKGW, MKGY)
#: Features in the order of the published integers, among them those of an entity without training triples
FEATURES = torch.arange(1.0, 1 + 2 * len(ENTITIES)).view(-1, 2)


def write_features(directory: pathlib.Path) -> dict[str, object]:
    """Write features in all orders, and return what is given to the data set, as JSON-able values."""
    torch.save(FEATURES, directory / "visual.pth")
    write(directory / "text.tsv", [f"{label}\ttext of {index % 3}" for index, label in enumerate(reversed(ENTITIES))])
    rows = [f"{label}\t{index}" for index, label in reversed(list(enumerate(ENTITIES, start=1)))]
    write(directory / "numeric.tsv", rows)
    return dict(
        visual=str(directory / "visual.pth"),
        textual=dict(text=str(directory / "text.tsv")),
        numeric=str(directory / "numeric.tsv"),
    )


@pytest.mark.parametrize("cls", MULTIMODAL)
def test_features(cls: type[MultimodalDataset], tmp_path: pathlib.Path, isolated_cache: pathlib.Path) -> None:
    """Features come with the training triples, published files without labels in the order of the integers."""
    write_openke(tmp_path / "source", separator=" ")
    given = write_features(tmp_path)
    dataset = cls(cache_root=tmp_path, source_url=(tmp_path / "source").as_uri(), **given)
    training = dataset.training
    attached = attached_modalities(training)
    assert attached == json.loads(json.dumps(dataset.modalities))
    loaded = load_modalities(attached, num_entities=training.num_entities, entity_to_id=training.entity_to_id)
    modalities = {modality.name: modality for modality in loaded}
    assert modalities.keys() == {"visual", "textual", "numeric"}
    for label, index in training.entity_to_id.items():
        position = ENTITIES.index(label)
        assert torch.equal(modalities["visual"].features[index], FEATURES[position])
        assert modalities["numeric"].features[index].tolist() == [position + 1]
    assert all(modality.covered.all() for modality in loaded)


def test_features_without_order(tmp_path: pathlib.Path) -> None:
    """Where somebody has put the triples alone into the directory, the order of rows is not made up."""
    directory = tmp_path / "mkgw"
    directory.mkdir()
    for name, triples in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        write(directory / f"{name}.txt", labeled(triples))
    dataset = MKGW(cache_root=tmp_path, visual=write_features(tmp_path)["visual"])
    with pytest.raises(ValueError, match=r"8 rows, but there are 7 entities.*labels"):
        load_modalities(dataset.modalities, num_entities=7, entity_to_id=dataset.training.entity_to_id)


def test_no_features(tmp_path: pathlib.Path) -> None:
    """Without features, the triples bring none along."""
    write_openke(tmp_path / "source", separator=" ")
    dataset = MKGW(cache_root=tmp_path, source_url=(tmp_path / "source").as_uri())
    assert dataset.modalities == {}
    assert attached_modalities(dataset.training) is None


@pytest.mark.parametrize("name", ["db15k", "mkgw", "mkg-y"])
def test_features_in_pipeline(name: str, tmp_path: pathlib.Path, monkeypatch, isolated_cache) -> None:
    """In a pipeline that is all JSON, features find their way into the model, from PyKEEN's cache as well."""
    monkeypatch.setattr("pykeen.datasets.utils.PYKEEN_DATASETS", tmp_path / "pykeen")
    write_openke(tmp_path / "source", separator=" ")
    config = dict(
        dataset=name,
        dataset_kwargs=dict(
            cache_root=str(tmp_path), source_url=(tmp_path / "source").as_uri(), **write_features(tmp_path)
        ),
        model="RotatE",
        model_kwargs=dict(embedding_dim=4, entity_representations="multimodal"),
        epochs=1,
        random_seed=0,
        training_kwargs=dict(use_tqdm=False, batch_size=8),
        evaluation_kwargs=dict(use_tqdm=False, batch_size=8),
    )
    for _ in range(2):
        result = pipeline(**json.loads(json.dumps(config)))
        (representation,) = result.model.entity_representations
        assert isinstance(representation, MultimodalRepresentation)
        assert representation.names == ("structural", "textual", "visual", "numeric")
        features = representation.projections[1].features
        ids = result.training.entity_to_id
        for label, index in ids.items():
            if not isinstance(label, str):
                # PyKEEN's cache takes the label "NA" for a missing value
                continue
            expected = FEATURES[ENTITIES.index(label)] / FEATURES[ENTITIES.index('<a"b>')]
            ratio = features[index] / features[ids['<a"b>']]
            assert torch.allclose(ratio, expected), label


def test_get_dataset(tmp_path: pathlib.Path) -> None:
    """PyKEEN's own function resolves and makes our data sets."""
    write_openke(tmp_path / "source", separator="\t")
    url = (tmp_path / "source").as_uri()
    # an instance of the class is asked for, since a name would be cached in the user's directory
    dataset = get_dataset(dataset=MKGW(cache_root=tmp_path, source_url=url))
    assert dataset.get_normalized_name() == "mkgw"
