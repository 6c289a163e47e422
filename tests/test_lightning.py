"""The curriculum callback in PyKEEN's modules of PyTorch Lightning, and samplers there without it."""

from __future__ import annotations

import hashlib
import json
import logging
import pathlib
from typing import Any

import pytest
import torch
from torch import Tensor

from pykeen_dans.engine import coupling as couplings
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.utils import storage

from .utils import small, training_of

pytorch_lightning = pytest.importorskip("pytorch_lightning")

from pykeen.contrib.lightning import LCWALitModule, SLCWALitModule  # noqa: E402

from pykeen_dans.training.lightning import CurriculumLightningCallback  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("shared_cache", "no_engines"),
    pytest.mark.filterwarnings("ignore"),
]

WORK: dict[str, Any] = dict(fit_steps=2, refresh_queries=2_000)


class Recorder(pytorch_lightning.Callback):
    """Keep the negatives of each batch, and what was logged."""

    def __init__(self) -> None:
        self.negatives: list[Tensor] = []
        self.logged: dict[str, float] = {}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.negatives.append(batch["negatives"].clone())

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.logged |= {name: float(value) for name, value in trainer.callback_metrics.items()}


def make_module(**kwargs: Any) -> SLCWALitModule:
    torch.manual_seed(0)
    options = small(num_negs_per_pos=4, random_state=0, targets=(0.45, 0.2), **kwargs.pop("options", {}))
    return SLCWALitModule(
        dataset="nations",
        model="distmult",
        model_kwargs=dict(embedding_dim=8),
        negative_sampler="dans_kgc",
        negative_sampler_kwargs=options,
        **{"batch_size": 256, "learning_rate": 0.05, **kwargs},
    )


def fit(module: Any, *callbacks: Any, folder: pathlib.Path | None = None, **kwargs: Any) -> Any:
    """Train on the CPU, in silence."""
    ckpt_path = kwargs.pop("ckpt_path", None)
    defaults = dict(max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer = pytorch_lightning.Trainer(
        **{**defaults, "enable_model_summary": False, "enable_checkpointing": False, **kwargs},
        callbacks=list(callbacks),
        default_root_dir=folder,
    )
    trainer.fit(module, ckpt_path=ckpt_path)
    return trainer


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[GenerationEngine]:
    """Collect the engines that are made."""
    made: list[GenerationEngine] = []
    begin = GenerationEngine.__init__

    def counting(engine: GenerationEngine, **kwargs: Any) -> None:
        begin(engine, **kwargs)
        made.append(engine)

    monkeypatch.setattr(GenerationEngine, "__init__", counting)
    return made


def test_the_sampler_follows_the_model(engines: list[GenerationEngine]) -> None:
    """There is one engine, of the training triples, although Lightning makes a loader of validation triples first."""
    callback, recorder = CurriculumLightningCallback(**WORK), Recorder()
    module = make_module()
    fit(module, callback, recorder)
    (engine,) = engines
    assert engine is callback.coupling.engine
    assert torch.equal(engine.graph.mapped_triples, training_of("nations").mapped_triples)
    # in the space of the model, by the trainer's number of epochs
    assert engine.space is not None
    assert torch.equal(engine.space.raw_entities, module.model.entity_representations[0](indices=None))
    assert callback.callback.horizon == 3
    assert callback.coupling.progress == 1
    assert {"negatives.hardness", "negatives.fallback", "negatives.filled"} <= set(recorder.logged)
    assert recorder.logged["negatives.fallback"] < 0.2


def test_without_the_callback(engines: list[GenerationEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler alone has the trainer's horizon, and validation draws from the engine of the training."""
    horizons: list[int] = []
    module = make_module()
    make = SLCWALitModule._dataloader

    def recording(self: Any, *args: Any, **kwargs: Any) -> Any:
        loader = make(self, *args, **kwargs)
        horizons.append(loader.dataset.negative_sampler.horizon)
        return loader

    monkeypatch.setattr(SLCWALitModule, "_dataloader", recording)
    # the frame that tells is PyKEEN's own
    fit(module, max_epochs=7, limit_train_batches=2)
    assert horizons == [7, 7]
    assert len(engines) == 1
    assert torch.equal(engines[0].graph.mapped_triples, training_of("nations").mapped_triples)


def test_vectors_are_scored() -> None:
    weights = []
    for weight in (0.0, 1.0):
        module = make_module()
        fit(module, CurriculumLightningCallback(**WORK, vector_weight=weight))
        weights.append(module.model.entity_representations[0](indices=None).detach())
    assert not torch.equal(*weights)


def test_checkpoints_of_lightning(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    callback = CurriculumLightningCallback(**WORK, num_epochs=4)
    trainer = fit(make_module(), callback, folder=tmp_path, max_epochs=2)
    trainer.save_checkpoint(tmp_path / "test.ckpt")
    bank = callback.coupling.engine.bank.ids.clone()
    again, recorder = CurriculumLightningCallback(**WORK, num_epochs=4), Recorder()
    banks: list[Tensor] = []

    class Look(pytorch_lightning.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            banks.append(again.coupling.engine.bank.ids.clone())
            assert again.coupling.progress == 0.5

    fit(make_module(), again, recorder, Look(), folder=tmp_path, max_epochs=4, ckpt_path=tmp_path / "test.ckpt")
    assert torch.equal(banks[0], bank)
    assert "goes on without" not in caplog.text
    # one that knows nothing of the callback
    fit(make_module(), folder=tmp_path, max_epochs=2).save_checkpoint(tmp_path / "other.ckpt")
    recorder = Recorder()
    with caplog.at_level(logging.WARNING):
        fit(
            make_module(),
            again := CurriculumLightningCallback(**WORK),
            recorder,
            folder=tmp_path,
            ckpt_path=tmp_path / "other.ckpt",
        )
    assert caplog.text.count("goes on without the negatives") == 1
    assert recorder.logged["negatives.fallback"] < 0.2


def test_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"frequency=0"):
        CurriculumLightningCallback(frequency=0)
    module = LCWALitModule(dataset="nations", model="distmult", model_kwargs=dict(embedding_dim=4))
    with pytest.raises(ValueError, match=r"model=LCWALitModule draws no negatives"):
        fit(module, CurriculumLightningCallback())
    with pytest.raises(ValueError, match=r"max_epochs=-1 tells no end of the curriculum; pass num_epochs"):
        fit(make_module(), CurriculumLightningCallback(), max_epochs=-1)
    module = make_module()
    module.negative_sampler, module.negative_sampler_kwargs = "basic", None
    with pytest.raises(ValueError, match=r"negative_sampler='basic' generates no negatives"):
        fit(module, CurriculumLightningCallback())


class Tell(pytorch_lightning.Callback):
    """Let each process write down what it has."""

    def __init__(self, folder: pathlib.Path, callback: CurriculumLightningCallback, recorder: Recorder) -> None:
        self.folder, self.callback, self.recorder = folder, callback, recorder

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        engine = self.callback.coupling.engine
        parts = {
            "negatives": torch.cat([x.flatten() for x in self.recorder.negatives]),
            "generator": torch.cat([x.detach().flatten() for x in engine.generator.parameters()]),
            "bank": engine.bank.ids,
            "random": engine.random.get_state(),
            "model": pl_module.model.entity_representations[0](indices=None).detach(),
        }
        found = {name: hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest() for name, x in parts.items()} | {
            "progress": self.callback.coupling.progress
        }
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(found))


@pytest.mark.slow
def test_two_processes(tmp_path: pathlib.Path, isolated_cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They draw different negatives, from one generator and one bank, and one of them writes to the cache."""
    write = storage._write

    def told(path: pathlib.Path, *args: Any) -> None:
        rank = torch.distributed.get_rank()
        (tmp_path / f"written-{rank}-{path.name}").touch()
        write(path, *args)

    monkeypatch.setattr(storage, "_write", told)
    couplings._alone.clear()
    # by time, of which there is a different amount in each process
    callback, recorder = CurriculumLightningCallback(refresh_budget=0.5), Recorder()
    module = make_module(options=dict(generator_kwargs=dict(difficulty="learned")))
    fit(module, callback, recorder, Tell(tmp_path, callback, recorder), strategy="ddp_fork", devices=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first.pop("negatives") != second.pop("negatives")
    assert first == second
    written = [path.name for path in tmp_path.glob("written-*")]
    assert written
    assert all(name.startswith("written-0-") for name in written)
