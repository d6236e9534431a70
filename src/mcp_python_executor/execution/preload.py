"""Which modules a zygote may import ahead: those known to survive a fork with nothing changed for the program."""

import sys
from collections.abc import Iterable

# By the top-level name that a program imports: what to import ahead for it.
_PACKAGES = {
    "PIL": ("PIL.Image",),
    "bs4": ("bs4",),
    "dateutil": ("dateutil.parser",),
    "jinja2": ("jinja2",),
    "matplotlib": ("matplotlib.pyplot", "matplotlib.backends.backend_agg"),
    "networkx": ("networkx",),
    "numpy": ("numpy", "numpy.random"),
    "openpyxl": ("openpyxl",),
    "pandas": ("pandas",),
    "pydantic": ("pydantic",),
    "requests": ("requests",),
    "scipy": ("scipy.stats", "scipy.signal"),  # it imports its parts when they are used, and these most others
    "seaborn": ("seaborn",),
    "sympy": ("sympy",),
    "yaml": ("yaml",),
}
SETTINGS = ("matplotlibrc",)
"""Files that a package reads where a program starts, when it is imported: what is imported ahead does not know them."""

# Modules of the standard library that do something to be seen, or start something, when they are imported.
_NEVER = frozenset(
    {"__main__", "antigravity", "idlelib", "lib2to3", "readline", "site", "test", "this", "tkinter", "turtle"}
)
# Their threads do not survive a fork; a package that imports them itself is not preloaded either.
_BREAK_FORKS = frozenset({"grpc", "jax", "polars", "pyarrow", "tensorflow", "torch"})

_STANDARD = frozenset(name for name in sys.stdlib_module_names if not name.startswith("_")) - _NEVER
_KNOWN = _STANDARD.union(*_PACKAGES.values())


def worthwhile(modules: Iterable[str]) -> frozenset[str]:
    """Of the top-level names that a program imported (hostile input), what to import ahead for the next ones."""
    names = frozenset(modules)
    if names & _BREAK_FORKS:
        return frozenset()
    return (names & _STANDARD).union(*(_PACKAGES[name] for name in names & _PACKAGES.keys()))


def known(modules: Iterable[str]) -> frozenset[str]:
    """Those of `modules` that may be imported ahead at all."""
    return frozenset(modules) & _KNOWN


def is_standard(module: str) -> bool:
    """Whether a module belongs to the standard library: these weigh little."""
    return module in sys.stdlib_module_names


def packages(modules: Iterable[str]) -> set[str]:
    """The top-level names of those outside it: a program that uses one of them has its name in it."""
    return {name.split(".")[0] for name in modules if not is_standard(name)}
