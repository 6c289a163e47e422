"""Whatever is imported first, PyKEEN knows our names, without any import of ours, warning or circular import.

Each case is a fresh interpreter, which needs the package to be installed, since PyKEEN finds it by its entry points.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

#: What has to be resolvable after any import order
CHECK = """
from pykeen.sampling import negative_sampler_resolver
from pykeen.sampling.filtering import filterer_resolver
from pykeen.training import callback_resolver, training_loop_resolver
from pykeen.datasets import dataset_resolver
from pykeen.nn import representation_resolver

found = {
    "ours_before": ours_before,
    "dans_kgc": negative_sampler_resolver.lookup("dans_kgc"),
    "dans-kgc": negative_sampler_resolver.lookup("dans-kgc"),
    "diffusion-adaptive": negative_sampler_resolver.lookup("diffusion-adaptive"),
    "dhns": negative_sampler_resolver.lookup("dhns"),
    "hierarchical": negative_sampler_resolver.lookup("hierarchical"),
    "dans": negative_sampler_resolver.lookup("dans"),
    "two-way-gan": negative_sampler_resolver.lookup("two-way-gan"),
    "exact": filterer_resolver.lookup("exact"),
    "curriculum": callback_resolver.lookup("curriculum"),
    "loop dans-kgc": training_loop_resolver.lookup("dans-kgc"),
    "loop dans_kgc": training_loop_resolver.lookup("dans_kgc"),
    "loop dans": training_loop_resolver.lookup("dans"),
    "loop dhns": training_loop_resolver.lookup("dhns"),
    "loop shared-negatives": training_loop_resolver.lookup("shared-negatives"),
    "multimodal": representation_resolver.lookup("multimodal"),
}
for name in ("family", "nell995", "NELL-995", "db15k", "mkgw", "MKG-Y"):
    found[name] = dataset_resolver.lookup(name)
"""

EXPECTED = {
    "dans_kgc": "pykeen_dans.sampling:DiffusionAdaptiveNegativeSampler",
    "dans-kgc": "pykeen_dans.sampling:DiffusionAdaptiveNegativeSampler",
    "diffusion-adaptive": "pykeen_dans.sampling:DiffusionAdaptiveNegativeSampler",
    "dhns": "pykeen_dans.sampling:HierarchicalNegativeSampler",
    "hierarchical": "pykeen_dans.sampling:HierarchicalNegativeSampler",
    "dans": "pykeen_dans.sampling:TwoWayGANNegativeSampler",
    "two-way-gan": "pykeen_dans.sampling:TwoWayGANNegativeSampler",
    "exact": "pykeen_dans.sampling.filtering:ExactFilterer",
    "curriculum": "pykeen_dans.training.callback:CurriculumTrainingCallback",
    "loop dans-kgc": "pykeen_dans.training.loops:DANSKGCTrainingLoop",
    "loop dans_kgc": "pykeen_dans.training.loops:DANSKGCTrainingLoop",
    "loop dans": "pykeen_dans.training.loops:DANSTrainingLoop",
    "loop dhns": "pykeen_dans.training.loops:DHNSTrainingLoop",
    "loop shared-negatives": "pykeen_dans.training.shared_negatives:SharedNegativesTrainingLoop",
    "multimodal": "pykeen_dans.multimodal.representation:MultimodalRepresentation",
    "family": "pykeen_dans.datasets:Family",
    "nell995": "pykeen_dans.datasets:NELL995",
    "NELL-995": "pykeen_dans.datasets:NELL995",
    "db15k": "pykeen_dans.datasets:DB15K",
    "mkgw": "pykeen_dans.datasets:MKGW",
    "MKG-Y": "pykeen_dans.datasets:MKGY",
}

#: Modules that load PyKEEN's plugins when they are imported, each of them with other modules half imported
LOADING = (
    "pykeen.training",
    "pykeen.training.callbacks",
    "pykeen.pipeline",
    "pykeen.hpo",
    "pykeen.cli",
    "pykeen.models",
    "pykeen.evaluation",
    "pykeen.datasets",
    "pykeen.checkpoints",
    "pykeen.nn",
    "pykeen.nn.representation",
    "pykeen.ablation",
)

#: Modules that do not load PyKEEN's plugins, and our own ones
WITH_OURS = (
    "pykeen.sampling, pykeen_dans",
    "pykeen.losses, pykeen_dans.training.callback",
    "pykeen_dans",
    "pykeen_dans.datasets",
    "pykeen_dans.sampling",
    "pykeen_dans.training.callback",
    "pykeen_dans.training.loops",
    "pykeen_dans.training.shared_negatives",
    "pykeen_dans.scoring.query_forms",
    "pykeen_dans.multimodal",
    "pykeen_dans.multimodal.representation",
    "pykeen.nn, pykeen_dans.multimodal.representation",
    "pykeen_dans.multimodal.representation, pykeen_dans.training.callback",
    "pykeen_dans.training.loops, pykeen_dans.training.callback",
    "pykeen.datasets, pykeen_dans.training.callback",
    "pykeen.datasets, pykeen_dans.training.loops",
    "pykeen.models, pykeen_dans.training.loops, pykeen.pipeline",
)

pytestmark = pytest.mark.skipif(
    "family" not in {entry.name for entry in entry_points(group="pykeen.datasets")},
    reason="pykeen-dans is not installed, so that PyKEEN does not find it: pip install -e .",
)


def run_python(code: str, *options: str, cwd: object) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, with few threads, and from a directory without our sources."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, env=env, cwd=str(cwd), timeout=300
    )


@pytest.mark.parametrize("first", [*LOADING, *WITH_OURS])
def test_import_order(first: str, tmp_path) -> None:
    """In each order, all names are resolved, and nothing is written to the standard error stream."""
    code = f"""
import json, sys
import {first}
ours_before = "pykeen_dans._plugin.register" in sys.modules
{CHECK}
classes = {{name: f"{{cls.__module__}}:{{cls.__qualname__}}" for name, cls in found.items() if name != "ours_before"}}
import pykeen, pykeen_dans, types
# no trace of the waiting remains
classes["types"] = [type(module) is types.ModuleType for module in (pykeen, pykeen_dans)]
print(json.dumps(classes))
"""
    result = run_python(code, "-W", "error::UserWarning", "-W", "error::ImportWarning", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    found = json.loads(result.stdout)
    assert found.pop("types") == [True, True]
    # a package may define its classes in submodules
    assert found.keys() == EXPECTED.keys()
    for name, cls in found.items():
        module, qualified = EXPECTED[name].split(":")
        assert cls.startswith(module) and cls.endswith(f":{qualified}"), name


@pytest.mark.parametrize("first", ["pykeen.training", "pykeen.hpo"])
def test_nothing_else_imported(first: str, tmp_path) -> None:
    """The names of callback and loop are there right after the import, without a further import statement."""
    code = f"""
import sys
import {first}
training = sys.modules["pykeen.training"]
assert "curriculum" in sys.modules["pykeen.training.callbacks"].callback_resolver.lookup_dict
assert "danskgc" in training.training_loop_resolver.options
assert "danskgc" in sys.modules["pykeen.sampling"].negative_sampler_resolver.options
"""
    result = run_python(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_datasets_only(tmp_path) -> None:
    """The plugin does not import PyKEEN's training, or its representations, on its own account."""
    code = """
import sys
import pykeen.datasets
assert "pykeen.training" not in sys.modules
assert "pykeen.nn" not in sys.modules
from pykeen.sampling import negative_sampler_resolver
negative_sampler_resolver.lookup("dans_kgc")
"""
    result = run_python(code, "-W", "error::UserWarning", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert not result.stderr


def test_training_loop_option(tmp_path) -> None:
    """The command line of PyKEEN offers the training loop."""
    code = "from pykeen.cli import main; main()"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    result = subprocess.run(
        [sys.executable, "-c", code, "train", "complex", "--help"],
        capture_output=True,
        text=True,
        env=env,
        cwd=tmp_path,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "danskgc" in result.stdout
    assert "|dans|" in result.stdout or "dans," in result.stdout or "dans]" in result.stdout, result.stdout


def test_name_clash(caplog) -> None:
    """A name that belongs to somebody else stays with them, with a warning, and registering twice changes nothing."""
    from class_resolver import ClassResolver

    from pykeen_dans._plugin.register import _add

    class Base:
        pass

    class ExactBase(Base):
        pass

    class Other(Base):
        pass

    resolver: ClassResolver[Base] = ClassResolver([ExactBase], base=Base)
    _add(resolver, Other, ["exact", "other-name"])
    assert resolver.lookup("exact") is ExactBase
    assert resolver.lookup("other") is resolver.lookup("other-name") is Other
    assert "exact" in caplog.text
    caplog.clear()
    _add(resolver, Other, ["other-name"])
    assert not caplog.text


def test_import_failure_is_reported(tmp_path) -> None:
    """A broken module of ours costs its own names, with a warning, but not PyKEEN."""
    code = """
import sys
sys.modules["pykeen_dans.training.callback"] = None  # the import system takes this for a module that cannot be imported
import pykeen.training
from pykeen.sampling import negative_sampler_resolver
assert "slcwa" in pykeen.training.training_loop_resolver.options
assert "curriculum" not in pykeen.training.callback_resolver.options
assert negative_sampler_resolver.lookup("dans_kgc")
"""
    result = run_python(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "could not register pykeen_dans.training.callback" in result.stderr


def test_import_time(tmp_path) -> None:
    """The import of the plugin adds less than 0.3 s to the import of PyKEEN.

    The additional time is that of the modules which are not imported without the plugin. Other processes disturb the
    clock, so that the shortest of a few attempts counts.
    """
    without = """
import importlib.metadata, sys
find = importlib.metadata.entry_points
importlib.metadata.entry_points = lambda **kwargs: [
    entry for entry in find(**kwargs) if not entry.value.startswith("pykeen_dans")
]
import pykeen.pipeline
assert not any(name.startswith("pykeen_dans") for name in sys.modules)
print("\\n".join(sys.modules))
"""
    base = set(run_python(without, cwd=tmp_path).stdout.split())
    assert "pykeen.pipeline" in base
    added = {}
    for _ in range(3):
        result = run_python("import pykeen.pipeline", "-X", "importtime", cwd=tmp_path)
        assert result.returncode == 0
        times = {}
        for line in result.stderr.splitlines():
            own, _, name = line.removeprefix("import time:").split("|")
            if own.strip().isdigit() and name.strip() not in base:
                times[name.strip()] = int(own)
        assert "pykeen_dans._plugin.register" in times
        if not added or sum(times.values()) < sum(added.values()):
            added = times
        if sum(added.values()) < 300_000:
            break
    assert sum(added.values()) < 300_000, sorted(added.items(), key=lambda item: -item[1])[:20]
    heavy = {"matplotlib", "sklearn", "scipy.stats", "networkx"}
    assert not heavy.intersection(added), "import these inside of functions"
