"""What is ours in modules that a program imports: done at once where a module is there, else when it comes."""

from __future__ import annotations

import importlib.machinery
import sys

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    Hook = Callable[[ModuleType], None]


def when_imported(hooks: dict[str, Hook]) -> None:
    """Has each hook called with the module of its name, once that has been executed."""
    absent = {name: hook for name, hook in hooks.items() if name not in sys.modules}
    for name in hooks.keys() - absent.keys():
        hooks[name](sys.modules[name])
    if absent:
        sys.meta_path.insert(0, _Finder(absent))


class _Finder:
    """Finds the modules where everybody finds them, each once."""

    def __init__(self, hooks: dict[str, Hook]) -> None:
        self._hooks = hooks

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder` has it."""
        hook = self._hooks.get(name)
        if hook is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec and spec.loader
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                if self._hooks.pop(name, None):
                    hook(module)

            loader.exec_module = exec_module
        return spec
