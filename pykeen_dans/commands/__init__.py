"""The command line: ``pykeen-dans``, with one module for each command.

A module that is put here, and adds its command to :data:`pykeen_dans.commands.group.main`, is found.
"""

from __future__ import annotations

import importlib
import pkgutil

from .group import main

__all__ = [
    "main",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
