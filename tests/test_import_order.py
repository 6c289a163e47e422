"""Whatever is imported first, PyKEEN knows our names, without any import of ours, warning or circular import.

The package has to be installed, since PyKEEN finds it by its entry points. Each case is a process that has imported
nothing of PyKEEN and of this package; what they are built on is imported once, and the processes are forked from that.
"""

from __future__ import annotations

import json
import pathlib
import re
from importlib.metadata import entry_points

import pytest

from .processes import Outcome, run_cases, run_python

#: What has to be resolvable after any import order
CHECK = """
from pykeen.sampling import negative_sampler_resolver
from pykeen.sampling.filtering import filterer_resolver
from pykeen.training import callback_resolver, training_loop_resolver
from pykeen.datasets import dataset_resolver
from pykeen.nn import representation_resolver

found = {
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

#: Some modules that load PyKEEN's plugins when they are imported, each of them with other modules half imported, and
#: some of ours
FIRST = (
    "pykeen.training.callbacks",
    "pykeen.pipeline",
    "pykeen.nn.representation",
    "pykeen.sampling, pykeen_dans",
    "pykeen_dans.multimodal.representation, pykeen_dans.training.callback",
    "pykeen.datasets, pykeen_dans.training.loops",
    # not registered itself, but what is registered needs it
    "pykeen_dans.training.order",
)

#: The modules of our room of training, but for one whose requirement warns by itself
TRAINING = [
    f"pykeen_dans.training.{path.stem}"
    for path in sorted(pathlib.Path(__file__).parents[1].glob("pykeen_dans/training/[!_]*.py"))
    if path.stem != "lightning"
]

#: Many others, tried by ``pytest -m nightly``
OTHERS = (
    "pykeen.training",
    "pykeen.hpo",
    "pykeen.cli",
    "pykeen.models",
    "pykeen.evaluation",
    "pykeen.datasets",
    "pykeen.checkpoints",
    "pykeen.nn",
    "pykeen.ablation",
    "pykeen.losses, pykeen_dans.training.callback",
    "pykeen_dans",
    "pykeen_dans.datasets",
    "pykeen_dans.sampling",
    *TRAINING,
    "pykeen_dans.inspection",
    "pykeen_dans.commands",
    "pykeen_dans.scoring.query_forms",
    "pykeen_dans.engine.engine",
    "pykeen_dans.generators",
    "pykeen_dans.multimodal",
    "pykeen_dans.multimodal.representation",
    "pykeen.nn, pykeen_dans.multimodal.representation",
    "pykeen_dans.training.loops, pykeen_dans.training.callback",
    "pykeen.datasets, pykeen_dans.training.callback",
    "pykeen.models, pykeen_dans.training.loops, pykeen.pipeline",
)

pytestmark = pytest.mark.skipif(
    "family" not in {entry.name for entry in entry_points(group="pykeen.datasets")},
    reason="pykeen-dans is not installed, so that PyKEEN does not find it: pip install -e .",
)

#: Import an order, and print the modules of what is resolved
ORDER = f"""
import json, sys, types, warnings
warnings.simplefilter("error", UserWarning)
warnings.simplefilter("error", ImportWarning)
import %s
{CHECK}
import pykeen, pykeen_dans
classes = {{name: f"{{cls.__module__}}:{{cls.__qualname__}}" for name, cls in found.items()}}
# no trace of the waiting remains, but for what most users never import
from pykeen_dans._plugin.after_import import _waiting
classes["types"] = [set(_waiting["pykeen"]) <= {{"hpo"}}, type(pykeen_dans) is types.ModuleType]
print(json.dumps(classes))
"""

#: The names of callback and loop are there right after the import, without a further import statement
NOTHING_ELSE = """
import sys
import %s
training = sys.modules["pykeen.training"]
assert "curriculum" in sys.modules["pykeen.training.callbacks"].callback_resolver.lookup_dict
assert "danskgc" in training.training_loop_resolver.options
assert "danskgc" in sys.modules["pykeen.sampling"].negative_sampler_resolver.options
"""

CASES = {
    **{first: ORDER % first for first in FIRST},
    "nothing else: training": NOTHING_ELSE % "pykeen.training",
    "nothing else: hpo": NOTHING_ELSE % "pykeen.hpo",
    "data sets only": """
import sys
import pykeen.datasets
assert "pykeen.training" not in sys.modules
assert "pykeen.nn" not in sys.modules
from pykeen.sampling import negative_sampler_resolver
negative_sampler_resolver.lookup("dans_kgc")
""",
    "broken module": """
import sys
sys.modules["pykeen_dans.training.callback"] = None  # the import system takes this for a module that cannot be imported
import pykeen.training
from pykeen.sampling import negative_sampler_resolver
assert "slcwa" in pykeen.training.training_loop_resolver.options
assert "curriculum" not in pykeen.training.callback_resolver.options
assert negative_sampler_resolver.lookup("dans_kgc")
""",
    "command line": """
import sys
sys.argv = ["pykeen", "train", "complex", "--help"]
from pykeen.cli import main
main()
""",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Run all quick cases."""
    return run_cases(CASES, tmp_path_factory.mktemp("cases"))


def check_order(outcome: Outcome) -> None:
    """Check that all names are resolved, and that nothing is written to the standard error stream."""
    assert outcome.status == 0, outcome.stderr
    assert not outcome.stderr
    found = json.loads(outcome.stdout)
    assert found.pop("types") == [True, True]
    # a package may define its classes in submodules
    assert found.keys() == EXPECTED.keys()
    for name, cls in found.items():
        module, qualified = EXPECTED[name].split(":")
        assert cls.startswith(module) and cls.endswith(f":{qualified}"), name


@pytest.mark.parametrize("first", FIRST)
def test_import_order(first: str, outcomes: dict[str, Outcome]) -> None:
    check_order(outcomes[first])


@pytest.mark.nightly
def test_other_import_orders(tmp_path: pathlib.Path) -> None:
    for outcome in run_cases({first: ORDER % first for first in OTHERS}, tmp_path).values():
        check_order(outcome)


@pytest.mark.parametrize("case", ["nothing else: training", "nothing else: hpo", "data sets only"])
def test_nothing_else_imported(case: str, outcomes: dict[str, Outcome]) -> None:
    """All names are there after one import, and no more is imported than is asked for."""
    assert outcomes[case] == Outcome(0, "", "")


def test_training_loop_option(outcomes: dict[str, Outcome]) -> None:
    """The command line of PyKEEN offers the training loops."""
    outcome = outcomes["command line"]
    assert outcome.status == 0, outcome.stderr
    assert {"slcwa", "danskgc", "dans", "dhns"} <= set(re.findall(r"\w+", outcome.stdout))


def test_import_failure_is_reported(outcomes: dict[str, Outcome]) -> None:
    """A broken module of ours costs its own names, with a warning, but not PyKEEN."""
    outcome = outcomes["broken module"]
    assert outcome.status == 0, outcome.stderr
    assert "could not register pykeen_dans.training.callback" in outcome.stderr


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


@pytest.mark.slow
def test_import_time(tmp_path: pathlib.Path) -> None:
    """The import of the plugin adds less than 0.3 s to that of PyKEEN, or than 4 % where the machine is busy.

    The additional time is that of the modules which are not imported without the plugin. Other processes disturb the
    clock, and the first attempt may have to compile our modules, so that there may be a second one.
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
    for _ in range(2):
        result = run_python("import pykeen.pipeline", "-X", "importtime", cwd=tmp_path)
        assert result.returncode == 0
        times = {}
        for line in result.stderr.splitlines():
            own, _, name = line.removeprefix("import time:").split("|")
            if own.strip().isdigit():
                times[name.strip()] = int(own)
        added = {name: time for name, time in times.items() if name not in base}
        assert "pykeen_dans._plugin.register" in added
        limit = max(300_000, 0.04 * sum(times.values()))
        if sum(added.values()) < limit:
            break
    assert sum(added.values()) < limit, sorted(added.items(), key=lambda item: -item[1])[:20]
    heavy = {"matplotlib", "sklearn", "scipy.stats", "networkx"}
    assert not heavy.intersection(added), "import these inside of functions"
