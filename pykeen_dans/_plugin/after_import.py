"""Run something as soon as a submodule has been imported completely.

PyKEEN loads plugins at the end of ``pykeen/datasets/__init__.py``. Depending on what the user imported first,
``pykeen.training`` is then only half imported: the base classes of callbacks and training loops do not exist yet, and
nothing that PyKEEN does later would ask the plugin again.

What does happen later, in any order, is documented behaviour of the import system: once a submodule has been executed
completely, it is *bound as an attribute of its parent package* (Python language reference, section 5.4.2). A package
may customise the setting of its attributes by the type of its module object (data model, section 3.3.2.1). Both
together give an event at exactly the right time, without replacing any function or class, and without a permanent
hook in ``sys.meta_path``. The type of the package is reset when there is nothing left to wait for.
"""

from __future__ import annotations

import importlib
import sys
from collections import defaultdict
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = [
    "call_after_import",
    "is_importing",
]

#: Who waits for what: the name of the package -> the name of the submodule -> the actions
_waiting: defaultdict[str, dict[str, list[Callable[[], None]]]] = defaultdict(dict)


class _WatchedPackage(ModuleType):
    """A package which runs the waiting actions once the import system has bound the submodule to it."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        waiting = _waiting[self.__name__]
        actions = waiting.pop(name, ())
        if actions and not waiting:
            # the actions may import, so the ordinary type comes back first
            super().__setattr__("__class__", ModuleType)
        for action in actions:
            action()


def _is_bound(name: str) -> bool:
    """Return whether a submodule has been imported completely, i.e., is bound to its parent package."""
    parent, _, child = name.rpartition(".")
    return parent in sys.modules and child in vars(sys.modules[parent])


def is_importing(name: str) -> bool:
    """Return whether the import of a submodule has begun, but not ended.

    :param name: The full name of the submodule.

    :return: Whether it is half imported.
    """
    return sys.modules.get(name) is not None and not _is_bound(name)


def call_after_import(name: str, action: Callable[[], None]) -> None:
    """Call a function once a submodule has been imported completely.

    The submodule is not imported for this purpose. If it is there already, the function is called immediately.

    :param name: The full name of the submodule.
    :param action: The function to call, once.
    """
    if _is_bound(name):
        action()
        return
    parent_name, _, child = name.rpartition(".")
    parent = importlib.import_module(parent_name)
    _waiting[parent_name].setdefault(child, []).append(action)
    if not isinstance(parent, _WatchedPackage):
        parent.__class__ = _WatchedPackage
