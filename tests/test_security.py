"""Reading a file runs no code of it, and writes to no place but the folders that were given."""

from __future__ import annotations

import ast
import os
import pathlib
import pickle
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pykeen.models import DistMult
from pykeen.pipeline import PipelineResult

from pykeen_dans.datasets import MKGW, Family
from pykeen_dans.experiments import load_recipe, recipe_path
from pykeen_dans.inspection import describe
from pykeen_dans.multimodal import load_modalities
from pykeen_dans.utils.storage import cached_tensors

from .utils import training_of

ROOT = pathlib.Path(__file__).parents[1]

#: What runs code of what it reads, or unpacks to where an archive says
FORBIDDEN = {"Unpickler", "extract", "extractall", "unpack_archive", "read_pickle", "full_load", "unsafe_load"}
#: The same, by the names of a module and its function
FORBIDDEN_OF_MODULE = {
    (m, f) for m in ("pickle", "marshal", "joblib", "dill", "cloudpickle") for f in ("load", "loads")
}
FORBIDDEN_OF_MODULE |= {("shelve", "open"), ("yaml", "load"), ("builtins", "eval"), ("builtins", "exec")}
#: What is read where the user says that he trusts it
TRUSTED = {"pykeen_dans/inspection/saved.py": ["torch.load"]}
#: The argument by which a function is harmless
SAFE = {("torch", "load"): ("weights_only", True), ("np", "load"): ("allow_pickle", False)}


def dangers(code: str) -> Iterator[str]:
    """Find what runs code of files."""
    tree = ast.parse(code)
    safe = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            given = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
            # itself, or in functools.partial
            for function in (call.func, *call.args):
                if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                    key, value = SAFE.get((function.value.id, function.attr), ("", None))
                    if key in given and given[key] is value:
                        safe.add(function)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            module = node.value.id if isinstance(node.value, ast.Name) else ""
            pair = (module, node.attr)
            if node.attr in FORBIDDEN or pair in FORBIDDEN_OF_MODULE or (pair in SAFE and node not in safe):
                yield ast.unparse(node)
        elif isinstance(node, ast.Name) and node.id in {"eval", "exec", *FORBIDDEN}:
            yield node.id
        elif isinstance(node, ast.ImportFrom):
            yield from (name.name for name in node.names if (node.module, name.name) in {*FORBIDDEN_OF_MODULE, *SAFE})


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("torch.load(path)", ["torch.load"]),
        ("torch.load(path, weights_only=False)", ["torch.load"]),
        ("torch.load(path, weights_only=True)", []),
        ("functools.partial(torch.load, weights_only=True)", []),
        ("reader = np.load", ["np.load"]),
        ("np.load(path, allow_pickle=False)", []),
        ("pickle.loads(b'')", ["pickle.loads"]),
        ("from pickle import load", ["load"]),
        ("archive.extractall(folder)", ["archive.extractall"]),
        ("eval('1')", ["eval"]),
        ("model.eval()", []),
        ("except_ = pickle.UnpicklingError", []),
    ],
)
def test_dangers_are_found(code: str, found: list[str]) -> None:
    assert list(dangers(code)) == found


@pytest.mark.parametrize("folder", ["pykeen_dans", "benchmarks"])
def test_nothing_is_unpickled_or_extracted(folder: str) -> None:
    """No line of the package, and none of the benchmarks, could run what a file holds."""
    files = list((ROOT / folder).rglob("*.py"))
    assert len(files) > 10
    found = {path.relative_to(ROOT).as_posix(): list(dangers(path.read_text())) for path in files}
    found = {name: dangers for name, dangers in found.items() if dangers}
    assert found == {name: dangers for name, dangers in TRUSTED.items() if name.startswith(folder)}


class Malicious:
    """Ends the process where it is unpickled."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def write_malicious(path: pathlib.Path) -> None:
    """Write a pickle in the form of PyTorch, which unpickles it by default."""
    torch.save(Malicious(), path)


def test_a_pickle_among_the_files_of_a_data_set(tmp_path: pathlib.Path) -> None:
    """Published files are text, whatever a mirror hands out."""
    for cls in (Family, MKGW):
        source = tmp_path / cls.__name__
        source.mkdir()
        for name in cls.source_names:
            write_malicious(source / name)
        with pytest.raises(ValueError, match=r"cannot be decoded .*pass another source_url"):
            cls(cache_root=tmp_path / "cache", source_url=source.as_uri())
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_pickle_among_what_a_training_has_saved(tmp_path: pathlib.Path) -> None:
    """Neither triples nor models of a directory that somebody hands on run code, unless they are trusted."""
    triples = tmp_path / PipelineResult.TRAINING_TRIPLES_FILE_NAME
    training_of("nations").to_path_binary(triples)
    write_malicious(tmp_path / PipelineResult.MODEL_FILE_NAME)
    with pytest.raises(ValueError, match=r"is a pickle, which can run any code.*trust=True"):
        describe(tmp_path)
    for file in sorted(triples.iterdir()):
        content = file.read_bytes()
        for write in (write_malicious, lambda path: path.write_bytes(pickle.dumps(Malicious()))):
            write(file)
            # the model of whoever looks at it
            with pytest.raises(ValueError, match=re.escape(file.name)):
                describe(tmp_path, model=DistMult(triples_factory=training_of("nations"), embedding_dim=2))
        file.write_bytes(content)


def test_a_pickle_in_the_place_of_a_cache_file(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is made anew, like any damaged one."""
    for number, write in enumerate((write_malicious, lambda path: path.write_bytes(pickle.dumps(Malicious())))):
        key = str(number) * 64
        write(tmp_path / f"{key}.safetensors")
        made = cached_tensors("x", key, lambda: {"x": torch.ones(2)}, shapes={"x": (2,)}, directory=tmp_path)
        assert torch.equal(made["x"], torch.ones(2))
        assert f"{key}.safetensors is unusable" in caplog.text


def everything_in(folder: pathlib.Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_an_archive_cannot_write_outside(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members of an archive are read into memory, whatever they are called."""
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    path = inside / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("features.npy", "../outside.npy", str(tmp_path / "absolute.npy")):
            with archive.open(name, "w") as file:
                np.save(file, np.ones((3, 2)))
    (modality,) = load_modalities({"visual": path}, num_entities=3, entity_to_id=None)
    assert torch.equal(modality.features, torch.ones(3, 2))
    assert everything_in(tmp_path) == {"inside", "inside/x.npz"}


def test_names_are_never_paths(isolated_cache: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """What a configuration calls its modalities, and what entities are called, names no file."""
    texts = {"../../a": "one text", "/b": "another text", "..": "and a third one"}
    options = {"text": texts, "encoder_kwargs": {"min_count": 1}}
    load_modalities({"../../x": options}, num_entities=3, entity_to_id={label: i for i, label in enumerate(texts)})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.parent for path in files] == [isolated_cache / "text"]
    assert not tmp_path.parent.joinpath("x").exists()


@pytest.mark.parametrize("name", ["../experiments/umls-complex", "/etc/passwd", "umls-complex.json", ""])
def test_recipes_stay_in_their_folder(name: str) -> None:
    """A recipe has a name, not a path."""
    for load in (load_recipe, recipe_path):
        with pytest.raises(ValueError, match=r"name=.* is unknown; choose one of"):
            load(name)


def test_data_sets_stay_in_the_folder_that_was_given(tmp_path: pathlib.Path) -> None:
    """Neither downloads nor what is made of them leave it."""
    source, cache = tmp_path / "source", tmp_path / "given" / "cache"
    source.mkdir()
    for name in Family.source_names:
        source.joinpath(name).write_text("../a\tlikes\t/etc/b\n")
    before = everything_in(tmp_path)
    Family(cache_root=cache, source_url=source.as_uri()).training.num_triples  # noqa: B018
    new = everything_in(tmp_path) - before
    assert new == {"given", "given/cache", "given/cache/family"} | {
        f"given/cache/family/{name}" for name in ("train.txt", "valid.txt", "test.txt")
    }
