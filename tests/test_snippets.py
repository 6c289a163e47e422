"""All Python of the README and of the pages runs: each page from top to bottom, on Nations, for one epoch."""

from __future__ import annotations

import copy
import importlib.util
import pathlib
import re
import textwrap
from typing import Any

import pykeen.contrib.lightning
import pykeen.datasets
import pykeen.hpo
import pykeen.pipeline
import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs" / "source"
#: What a block may ask for by ``.. requires:`` above it, beside modules: data that cannot be had
UNAVAILABLE = {"published features"}

pytestmark = pytest.mark.skipif(not README.is_file(), reason="needs a checkout of the source")

# a block goes on while lines are empty, or further to the right than its directive
_BLOCK = re.compile(
    r"^(?: *\.\. requires: (?P<needs>[^\n]+)\n\n)?(?P<indent> *)\.\. code-block:: python\n"
    r"(?P<text>(?:(?P=indent) +.*\n|\n)+)",
    flags=re.MULTILINE,
)
_FENCED = re.compile(r"^```python\n(?P<text>.*?)^```", flags=re.MULTILINE | re.DOTALL)


def blocks(path: pathlib.Path) -> list[tuple[str, str]]:
    """The programs of a page, each with what it requires."""
    pattern = _FENCED if path.suffix == ".md" else _BLOCK
    text = path.read_text(encoding="utf-8")
    return [
        (match.groupdict().get("needs") or "", textwrap.dedent(match["text"]).strip())
        for match in pattern.finditer(text)
    ]


PAGES = [path for path in (README, *sorted(DOCS.glob("*.rst"))) if path.is_file() and blocks(path)]


def is_available(needs: str) -> bool:
    return needs not in UNAVAILABLE and (not needs or importlib.util.find_spec(needs) is not None)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, shared_cache: pathlib.Path) -> None:
    """Let pages train on Nations for one epoch, in a folder with the files that they name."""
    pipeline, from_config = pykeen.pipeline.pipeline, pykeen.pipeline.pipeline_from_config
    search, get_dataset = pykeen.hpo.hpo_pipeline, pykeen.datasets.get_dataset
    lightning = pykeen.contrib.lightning.lit_pipeline
    once = {"num_epochs": 1, "use_tqdm": False}

    def changed(options: dict[str, Any]) -> dict[str, Any]:
        name = "nations" if isinstance(options["dataset"], str) else options["dataset"]
        return {**options, "dataset": name, "training_kwargs": {**(options.get("training_kwargs") or {}), **once}}

    def train(**options: Any) -> Any:
        return pipeline(**changed(options), random_seed=0)

    def train_by(config: dict[str, Any]) -> Any:
        config = copy.deepcopy(config)
        return from_config({**config, "pipeline": changed(config["pipeline"])})

    def lit(training_loop_kwargs: dict[str, Any], trainer_kwargs: dict[str, Any], **options: Any) -> None:
        quickly = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, "accelerator": "cpu", "devices": 1}
        model = {**training_loop_kwargs, "dataset": "nations"}
        lightning(training_loop_kwargs=model, trainer_kwargs={**trainer_kwargs, **quickly}, **options)

    monkeypatch.setattr(pykeen.pipeline, "pipeline", train)
    monkeypatch.setattr(pykeen.pipeline, "pipeline_from_config", train_by)
    monkeypatch.setattr(pykeen.hpo, "hpo_pipeline", lambda n_trials, **options: search(n_trials=1, **changed(options)))
    monkeypatch.setattr(pykeen.datasets, "get_dataset", lambda dataset: get_dataset(dataset="nations"))
    monkeypatch.setattr(pykeen.contrib.lightning, "lit_pipeline", lit)
    monkeypatch.chdir(tmp_path)
    labels = get_dataset(dataset="nations").entity_to_id
    tmp_path.joinpath("entity_text.tsv").write_text("".join(f"{label}\tthe country {label}\n" for label in labels))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_page_runs(path: pathlib.Path, quick: None) -> None:
    names: dict[str, Any] = {"__name__": path.stem}
    programs = [(needs, text) for needs, text in blocks(path) if is_available(needs)]
    for _, text in programs:
        exec(compile(text, path.name, "exec"), names)


def test_what_is_left_out() -> None:
    """Only for data that cannot be had, and for extras that may be missing."""
    missing = {needs for path in PAGES for needs, _ in blocks(path)} - {""}
    assert missing <= UNAVAILABLE | {"pytorch_lightning", "pyarrow"}
