"""Several trainings in one run, each in a process of its own, of which one at a time is told to go on.

So the machine does the same for all of them, whatever else it does meanwhile, no two of them compete for its caches,
each has a peak of memory and random numbers of its own, and none finds what another one has left in memory. They make
ready one after the other, before the first one begins. Next is always the one that has used the least seconds so far.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

#: What trainings import
_PRELOADED = ["pykeen.pipeline", "pykeen_dans.training.loops", "sklearn.decomposition"]


class Turns:
    """The end of the pipe at which a process waits for its next turn."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def wait(self, seconds: float) -> None:
        """End the turn, with the seconds that were used so far, of those that count, and wait for the next one."""
        self._connection.send(("turn", seconds))
        self._connection.recv()


def _main(connection: Connection, work: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Work in a process of its own."""
    try:
        connection.send(("done", work(turns=Turns(connection), **kwargs)))
    # whatever it is, the parent raises it again, with the text of the traceback
    except BaseException:
        connection.send(("failed", traceback.format_exc()))
        raise


def interleave(work: Callable[..., Any], tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Let processes take turns until all of them are done, and return the result of each by its name.

    Each calls an importable function, which waits for its turn, by its argument ``turns``, before anything is timed.

    :raises RuntimeError: if one of them fails; all of them are ended then
    """
    # what all of them import is imported once
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    processes: dict[str, Any] = {}
    pipes: dict[str, Connection] = {}
    results: dict[str, Any] = {}
    used: dict[str, float] = {}

    def listen(name: str) -> None:
        """Wait until a process has ended its turn, or all of its work."""
        try:
            kind, content = pipes[name].recv()
        except EOFError as error:
            raise RuntimeError(f"{name}: its process has ended without a word, as when memory runs out.") from error
        if kind == "failed":
            raise RuntimeError(f"{name}: {content}")
        if kind == "turn":
            used[name] = content
        else:
            used.pop(name, None)
            results[name] = content

    try:
        for name, kwargs in tasks.items():
            pipes[name], theirs = context.Pipe()
            processes[name] = context.Process(target=_main, args=(theirs, work, kwargs), daemon=True)
            processes[name].start()
            theirs.close()
            # each makes itself ready alone: two that fill PyKEEN's cache of a data set at once read half of a file
            listen(name)
        while used:
            # the order of tasks decides between equals
            name = min(used, key=lambda key: used[key])
            pipes[name].send("go")
            listen(name)
    finally:
        for process in processes.values():
            if len(results) < len(tasks):
                process.terminate()
            process.join()
    return {name: results[name] for name in tasks}
