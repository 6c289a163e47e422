"""Where the data sets of commands come from."""

from __future__ import annotations

import lzma
import pathlib
import socket

import pytest
from pykeen.datasets import Dataset, get_dataset

from pykeen_dans.commands.data import load_dataset


def write(path: pathlib.Path, triples: list[str]) -> pathlib.Path:
    """Write triples, whose parts have spaces between them here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(triple.split()) + "\n" for triple in triples))
    return path


def folder(path: pathlib.Path, *, test: str = "a r c") -> pathlib.Path:
    """Write a folder of three files."""
    write(path / "train.txt", ["a r b", "b r c", "c s a"])
    write(path / "valid.tsv", ["a s b"])
    write(path / "test.txt", [test])
    return path


def sizes(dataset: Dataset) -> list[int]:
    assert dataset.validation is not None
    return [part.num_triples for part in (dataset.training, dataset.validation, dataset.testing)]


def test_by_name() -> None:
    dataset = load_dataset("umls", offline=True)
    assert dataset.num_entities == 135
    assert dataset.training.create_inverse_triples


def test_a_file_is_split_always_alike(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "own.tsv", [f"e{i % 10} r{i % 2} e{(i * 3 + 1 + i // 10) % 10}" for i in range(100)])
    first, second = (load_dataset(str(path), inverse=inverse) for inverse in (True, False))
    assert sizes(first) == sizes(second) == [80, 10, 10]
    assert first.training.create_inverse_triples and not second.training.create_inverse_triples
    assert (first.testing.mapped_triples == second.testing.mapped_triples).all()
    # every label of the test is one of training
    assert first.training.num_entities == len(first.training.mapped_triples[:, [0, 2]].unique())


def test_a_folder_is_taken_as_it_is(tmp_path: pathlib.Path) -> None:
    dataset = load_dataset(str(folder(tmp_path / "own")))
    assert sizes(dataset) == [3, 1, 1]
    assert dataset.metadata == {"name": "own"}


def test_the_data_folder_goes_first(tmp_path: pathlib.Path) -> None:
    packed = folder(tmp_path / "UMLS") / "train.txt"
    packed.with_suffix(".txt.xz").write_bytes(lzma.compress(packed.read_bytes()))
    packed.unlink()
    assert load_dataset("umls", data_folder=tmp_path).num_entities == 3
    # what it lacks comes from elsewhere
    assert load_dataset("nations", data_folder=tmp_path).num_entities == get_dataset(dataset="nations").num_entities


def test_names_of_papers(tmp_path: pathlib.Path) -> None:
    folder(tmp_path / "CoDEx-S")
    for name in ("codexsmall", "CoDEx-S", "codex_s"):
        assert load_dataset(name, data_folder=tmp_path).num_entities == 3


def test_offline_asks_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(**kwargs: object) -> Dataset:
        socket.create_connection(("example.org", 80))
        raise AssertionError("a server was asked")

    monkeypatch.setattr("pykeen_dans.commands.data.get_dataset", get)
    with pytest.raises(OSError, match=r"--dataset=wn18 cannot be downloaded \(--offline forbids downloads\)"):
        load_dataset("wn18", offline=True)


def test_unknown_names(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"--dataset='codexsmal' is unknown; choose one of codexsmall"):
        load_dataset("codexsmal")
    folder(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"--dataset='mines' is unknown; choose one of mine"):
        load_dataset("mines", data_folder=tmp_path)
    with pytest.raises(OSError, match="neither a file nor a folder"):
        load_dataset("no/such/file.tsv")


def test_triples_that_cannot_be_used(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"test\.txt has 1 labels of kind entity .* e\.g\. 'x'"):
        load_dataset(str(folder(tmp_path / "labels", test="a r x")))
    with pytest.raises(ValueError, match="labels of kind relation"):
        load_dataset(str(folder(tmp_path / "relations", test="a t b")))
    with pytest.raises(ValueError, match="has 2 columns"):
        load_dataset(str(write(tmp_path / "two.tsv", ["a b", "b c"])))
    with pytest.raises(ValueError, match="shorter lines"):
        load_dataset(str(write(tmp_path / "short.tsv", ["a r b", "b r"])))
    with pytest.raises(ValueError, match="cannot be read as triples"):
        load_dataset(str(write(tmp_path / "empty.tsv", [])))
    incomplete = folder(tmp_path / "incomplete")
    (incomplete / "valid.tsv").unlink()
    with pytest.raises(ValueError, match=r"has no file valid\.txt or valid\.tsv"):
        load_dataset(str(incomplete))
