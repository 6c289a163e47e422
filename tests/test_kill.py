"""A training that is killed at any moment, and started again, ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from .processes import run_python

ROOT = pathlib.Path(__file__).parent.parent

#: Import everything once; fork a process for each attempt, and kill it after a while, again and again until one is done
SERVER = """
import gc, json, os, pathlib, random, signal, sys, threading, time
import torch, tqdm
torch.set_num_threads(1)
# forked processes share the lock of progress bars, and a killed one that holds it would block all others for good
tqdm.tqdm.set_lock(threading.RLock())
tqdm.tqdm.monitor_interval = 0
from tests.trainings import make_loop, train
from pykeen_dans.training import loops

EPOCHS = 6
kills, classes = int(sys.argv[1]), sys.argv[2:]
work = dict(fit_steps=2, refresh_queries=200)

def attempt(cls, folder):
    loop = make_loop(cls=getattr(loops, cls))
    # a process that goes on has another seed than the one before
    torch.manual_seed(99 if (folder / "test.pt").exists() else 1)
    losses = train(
        loop, num_epochs=EPOCHS, callbacks=None, callbacks_kwargs=work,
        checkpoint_name="test.pt", checkpoint_directory=folder, checkpoint_frequency=0,
    )
    bank = loop.negative_sampler_kwargs["coupling"].engine.bank.ids
    weights = [value.flatten().tolist() for value in loop.model.state_dict().values()]
    (folder / "result.json").write_text(json.dumps([losses, weights, bank.flatten().tolist()]))

def start(cls, folder):
    pid = os.fork()
    if pid == 0:
        with open(folder / "log", "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            try:
                attempt(cls, folder)
                os._exit(0)
            finally:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
    return pid

def folder_of(name):
    folder = pathlib.Path(name)
    folder.mkdir()
    return folder

dice = random.Random(0)
expected, duration = {}, {}
for cls in classes:
    # what is imported late is imported now
    attempt(cls, folder_of(f"first-{cls}"))
    gc.collect()
    gc.freeze()
    folder = folder_of(cls)
    began = time.perf_counter()
    attempt(cls, folder)
    duration[cls] = time.perf_counter() - began
    expected[cls] = (folder / "result.json").read_text()
killed = finished = resumed = 0
while killed < kills:
    cls = classes[finished % len(classes)]
    folder = folder_of(f"{cls}-{finished}")
    status = None
    while status != 0:
        resumed += (folder / "test.pt").exists()
        pid = start(cls, folder)
        if killed < kills:
            time.sleep(dice.uniform(0.1, 0.9) * duration[cls])
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        killed += os.WIFSIGNALED(status)
        assert not os.WIFEXITED(status) or status == 0, (folder / "log").read_text()
    assert (folder / "result.json").read_text() == expected[cls], folder
    finished += 1
print(json.dumps([killed, finished, resumed]))
"""

CLASSES = ["DANSKGCTrainingLoop", "CurriculumTrainingLoop"]


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: pathlib.Path, shared_cache: pathlib.Path) -> None:
    code = f"import sys; sys.path.insert(0, {os.fspath(ROOT)!r}); sys.argv[1:] = ['12', *{CLASSES!r}]\n{SERVER}"
    result = run_python(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    killed, finished, resumed = json.loads(result.stdout.splitlines()[-1])
    assert killed == 12
    assert finished > 1
    assert resumed > 2
