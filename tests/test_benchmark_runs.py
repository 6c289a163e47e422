"""How the benchmarks measure: turns, clocks, memory, synthetic graphs and metrics."""

from __future__ import annotations

import lzma
import os
import pathlib
import sys
import time

import numpy as np
import pytest
import torch
from click.testing import CliRunner

pytest.importorskip("suite", reason="needs a checkout of the source, with its benchmarks")

from pykeen.pipeline import pipeline
from suite import cost, curves, devices, scale, training
from suite.cli import main
from suite.configurations import Setting
from suite.curves import Race
from suite.graphs import FB15K237, DegreeLaw, fit_degree_law, synthetic_graph
from suite.interleave import Task, TaskFailedError, interleave
from suite.metrics import DiscountedGainAtK
from suite.rows import load
from suite.training import EpochClock, TakingTurns, peak_memory_mib

from . import turns


class Pause:
    """Waits for a while instead of a turn, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[float] = []

    def wait(self, seconds: float) -> None:
        self.told.append(seconds)
        time.sleep(0.4)


class TestTurns:
    def test_one_at_a_time_and_the_least_seconds_first(self, tmp_path: pathlib.Path):
        log = tmp_path / "log"
        costs = {"slow": [5.0, 5.0], "fast": [1.0, 1.0, 1.0, 1.0, 3.0]}
        tasks = {
            name: Task(turns.work, {"name": name, "costs": values, "log": str(log)}) for name, values in costs.items()
        }
        assert interleave(tasks) == {"slow": "slow used 10 s", "fast": "fast used 7 s"}
        lines = log.read_text().splitlines()
        # a turn is never interrupted, nor is the time before the first one, in which files are written
        assert [line.replace("begins", "ends") for line in lines[::2]] == lines[1::2]
        assert [line.split()[0] for line in lines[:4:2]] == ["slow", "fast"]
        # after its first turn, slow has used 5 s, and fast is next until it has used more
        assert [line.split()[0] for line in lines[4::2]] == ["slow", "fast", "fast", "fast", "fast", "fast", "slow"]

    def test_failures(self, tmp_path: pathlib.Path):
        healthy = Task(turns.work, {"name": "a", "costs": [1.0] * 3, "log": str(tmp_path / "log")})
        with pytest.raises(TaskFailedError, match=r"(?s)^bad: .*ValueError: no such luck"):
            interleave({"healthy": healthy, "bad": Task(turns.fail)})
        with pytest.raises(TaskFailedError, match="dead: its process has ended without a word"):
            interleave({"dead": Task(turns.die)})

    @pytest.mark.parametrize("kind", ["curve", "clock"])
    def test_waiting_is_off_the_clock(self, kind: str, shared_cache: pathlib.Path):
        pause = Pause()
        if kind == "curve":
            from pykeen.datasets import Nations

            known = Nations()
            callback = TakingTurns(
                turns=pause, validation=known.validation.mapped_triples[:8], known=[known.training.mapped_triples]
            )
        else:
            callback = EpochClock(pause)
        started = time.perf_counter()
        pipeline(
            dataset="nations",
            model="distmult",
            training_kwargs={"num_epochs": 3, "callbacks": callback, "use_tqdm": False},
            evaluation_kwargs={"use_tqdm": False},
            random_seed=0,
        )
        wall = time.perf_counter() - started
        used = callback.curve.total_seconds if kind == "curve" else sum(callback.epoch_seconds)
        # before the first epoch, and after each of the three
        assert len(pause.told) == 4
        assert wall - used >= 4 * 0.4
        assert pause.told[0] == 0
        assert sorted(pause.told) == pause.told
        assert 0 < pause.told[-1] < wall - 4 * 0.4
        if kind == "curve":
            assert callback.curve.epochs == [1, 2, 3]

    def test_clocks_begin_with_an_empty_cache(self, shared_cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
        """What earlier trainings have left on disk is neither seen nor touched."""
        homes: list[pathlib.Path] = []

        def stop(**_: object) -> None:
            homes.append(pathlib.Path(os.environ["PYSTOW_HOME"]))
            assert not list(homes[-1].iterdir())
            raise InterruptedError

        before = os.environ.get("PYSTOW_HOME")
        monkeypatch.setattr(training, "pipeline", stop)
        with pytest.raises(InterruptedError):
            training.train_with_curve(
                Pause(), setting=Setting("nations-distmult", "live", 1, epochs=1), frequency=1, threads=1
            )
        assert homes
        assert str(homes[0]) != before
        assert not homes[0].exists()
        assert os.environ.get("PYSTOW_HOME") == before

    @pytest.mark.slow
    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is inherited under Linux only")
    def test_memory_is_that_of_the_process_itself(self):
        """Under Linux, ``getrusage`` tells each process at least the peak of the one that started it."""
        ballast = torch.ones(200_000_000)
        assert interleave({"child": Task(turns.peak)})["child"] < ballast.nbytes / 2**20 < peak_memory_mib()


class TestGraphs:
    @pytest.mark.parametrize("size", [1_000, 10_000, 60_000])
    def test_everything_occurs_and_nothing_twice(self, size: int):
        triples, num_entities, num_relations = synthetic_graph(size)
        assert triples.shape == (size, 3)
        assert len(triples.unique(dim=0)) == size
        assert torch.equal(triples[:, 0].unique(), torch.arange(num_entities))
        assert torch.equal(triples[:, 1].unique(), torch.arange(num_relations))
        assert int(triples[:, 2].max()) < num_entities == round(size / FB15K237.triples_per_entity)

    def test_seeds(self):
        first, second, other = (synthetic_graph(2_000, seed=seed)[0] for seed in (1, 1, 2))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)

    def test_too_small(self):
        with pytest.raises(ValueError, match="num_triples=100 is too small"):
            synthetic_graph(100)

    def test_the_law_is_the_same_at_all_sizes(self):
        shares = []
        for size in (20_000, 200_000):
            triples, num_entities, _ = synthetic_graph(size)
            for column in (0, 2):
                degrees = np.sort(np.bincount(triples[:, column], minlength=num_entities))[::-1] / (size / num_entities)
                shares.append([degrees[int(u * num_entities)] for u in (0.01, 0.1, 0.5)])
        heads, tails, larger_heads, larger_tails = np.array(shares)
        assert larger_heads == pytest.approx(heads, rel=0.2)
        assert larger_tails == pytest.approx(tails, rel=0.2)
        # hubs are tails rather than heads, as in Freebase
        assert tails[0] > heads[0] > 5

    def test_the_law_is_found_again(self):
        law = DegreeLaw(exponent=0.9, shift=2e-3)
        random = np.random.default_rng(0)
        found = fit_degree_law(random.choice(3_000, size=300_000, p=law.probabilities(3_000)), 3_000)
        assert found.exponent == pytest.approx(law.exponent, abs=0.02)
        assert found.shift == pytest.approx(law.shift, rel=0.15)

    def test_constants_are_those_of_fb15k237(self):
        path = pathlib.Path(os.environ.get("PYKEEN_DANS_DATA", "."), "FB15k-237", "train.txt.xz")
        if not path.is_file():
            pytest.skip("PYKEEN_DANS_DATA names no folder with FB15k-237/train.txt.xz")
        with lzma.open(path, "rt") as file:
            columns = np.array([line.split("\t") for line in file.read().splitlines()]).T
        _, entities = np.unique(columns[[0, 2]], return_inverse=True)
        heads, tails = entities.reshape(2, -1)
        _, relations = np.unique(columns[1], return_inverse=True)
        num_entities = entities.max() + 1
        assert len(heads) / num_entities == pytest.approx(FB15K237.triples_per_entity, abs=0.01)
        assert relations.max() + 1 == FB15K237.num_relations
        for column, size, kept in (
            (heads, num_entities, FB15K237.heads),
            (tails, num_entities, FB15K237.tails),
            (relations, FB15K237.num_relations, FB15K237.relations),
        ):
            found = fit_degree_law(column, size)
            assert found.exponent == pytest.approx(kept.exponent, abs=2e-3)
            assert found.shift == pytest.approx(kept.shift, rel=1e-2)


class TestMeasurements:
    def test_discounted_gain(self):
        metric = DiscountedGainAtK(5)
        assert metric.key == "ndcg_at_5"
        assert metric(np.array([1.0])) == 1
        assert metric(np.array([6.0, 100.0])) == 0
        assert metric(np.array([1.0, 3.0, 5.0, 6.0])) == pytest.approx((1 + 1 / 2 + 1 / np.log2(6)) / 4)
        assert metric(np.array([1.0, 6.0]), weights=np.array([3.0, 1.0])) == pytest.approx(0.75)

    def test_bank_within_its_option(self):
        scale.check_bank(bank_mib=256.0, memory=256.0)
        with pytest.raises(AssertionError, match="more than memory=256"):
            scale.check_bank(bank_mib=256.1, memory=256.0)

    def test_utilisation(self, monkeypatch: pytest.MonkeyPatch):
        with devices.Utilisation() as idle:
            time.sleep(0.02)
        if not torch.cuda.is_available():
            assert idle.mean is None
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "utilization", lambda: 40)
        monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: name)
        monkeypatch.setattr(devices, "_INTERVAL_SECONDS", 0.01)
        with devices.Utilisation() as busy:
            time.sleep(0.2)
        assert busy.mean == pytest.approx(0.4)

    def test_hot_path(self, shared_cache: pathlib.Path):
        rows = list(cost.hot_path("nations", batch_sizes=[64], numbers=[4], rounds=2))
        assert {"bernoulli", "pseudotyped", "live"} <= {row["sampler"] for row in rows}
        for row in rows:
            assert row["setting"] == "nations, B=64, N=4"
            assert row["ratio"] == pytest.approx(row["ours"] / row["basic"])

    def test_refresh(self, shared_cache: pathlib.Path):
        rows = list(cost.refresh_stages("nations", rounds=1))
        stages = [row["what"].partition(": ")[2] for row in rows if row["sampler"] == "live"]
        assert stages == ["fit, one step", "generate", "decode", "store"]
        assert all(min(row["basic"], row["ours"]) > 0 for row in rows)

    @pytest.mark.slow
    def test_race_resumes_as_a_whole(self, tmp_path: pathlib.Path, shared_cache: pathlib.Path):
        race = Race("nations-distmult", ("basic-64", "live"), 1, factors=(1, 2), epochs=1)
        assert list(race.entries()) == ["basic-64", "live", "live x2"]
        assert race.entries()["live x2"] == Setting("nations-distmult", "live", 1, epochs=2)
        assert curves.execute([race], tmp_path) == 3
        assert curves.execute([race], tmp_path) == 0
        rows = load(tmp_path / curves.FILE)
        assert len({row["run"] for row in rows}) == 1
        assert [len(row["values"]) for row in rows] == [1, 1, 2]
        # one of them is gone: what did not take turns cannot be compared
        kept = [line for line in (tmp_path / curves.FILE).read_text().splitlines() if '"live x2"' not in line]
        (tmp_path / curves.FILE).write_text("\n".join(kept) + "\n")
        assert curves.execute([race], tmp_path) == 3

    @pytest.mark.slow
    def test_scale(self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, shared_cache: pathlib.Path):
        # without the real graph, which is left out
        monkeypatch.delenv("PYKEEN_DANS_DATA", raising=False)
        assert scale.execute(tmp_path, graphs=[600, scale.YAGO], variants=["basic", "live"]) == 2
        assert scale.execute(tmp_path, graphs=[600], variants=["basic", "live"]) == 0
        basic, live = load(tmp_path / scale.FILE)
        assert basic["num_triples"] == live["num_triples"] == 600
        assert 0 < live["bank_mib"] <= live["memory_mib"]
        assert live["epoch_seconds_ratio"] == pytest.approx(live["epoch_seconds"] / basic["epoch_seconds"])

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("options", "file", "count"),
        [
            (["time", "--only", "nations-distmult", "--variant", "live", "--factor", "1", "--epochs", "1"], "time", 2),
            (["cost", "--only", "nations-distmult", "--number", "2", "--epochs", "1", "--dim", "8"], "cost", 3),
            (["scale", "--graph", "600", "--variant", "live"], "scale", 2),
        ],
    )
    def test_command_measures_what_is_chosen(
        self, options: list[str], file: str, count: int, tmp_path: pathlib.Path, shared_cache: pathlib.Path
    ):
        done = CliRunner().invoke(main, [*options, "--output", str(tmp_path)])
        assert done.exit_code == 0, done.output
        assert [path.name for path in tmp_path.iterdir()] == [f"{file}.jsonl"]
        assert len(load(tmp_path / f"{file}.jsonl")) == count

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["quality", "--export", "x.json"], "--export does nothing without --only"),
            (["quality", "--seeds", "3"], "--seeds does nothing without --only"),
            (["time", "--factor", "2"], "--factor does nothing without --only"),
            (["cost", "--dim", "8"], "--dim does nothing without --only"),
            (["scale", "--variant", "live"], "--variant does nothing without --graph"),
            (["scale", "--graph", "600", "--tier", "full"], "--tier does nothing with --graph"),
            (["time", "--only", "umls-conve"], "recipe='umls-conve' is unknown"),
        ],
    )
    def test_options_that_do_nothing_are_refused(self, options: list[str], message: str, tmp_path: pathlib.Path):
        done = CliRunner().invoke(main, [*options, "--output", str(tmp_path)])
        assert done.exit_code != 0
        assert message in " ".join(done.output.split())
        assert not list(tmp_path.iterdir())

    @pytest.mark.slow
    def test_epochs(self, shared_cache: pathlib.Path):
        rows = list(cost.epochs("nations-distmult", ["live"], num_epochs=2, number=2))
        assert [row["what"] for row in rows] == ["epoch, s", "peak memory, MiB", "before the first batch, s"]
        assert all(row["ours"] > 0 and row["basic"] > 0 for row in rows)
