"""Which modules a zygote may import ahead: those known to survive a fork with nothing changed for the program."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

# What most programs use of it; it imports its parts when they are asked for.
_SKLEARN = (
    "cluster",
    "datasets",
    "ensemble",
    "linear_model",
    "metrics",
    "model_selection",
    "pipeline",
    "preprocessing",
)
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
    "pyarrow": ("pyarrow",),  # its allocator's thread is not started: see Surroundings
    "pydantic": ("pydantic",),
    "requests": ("requests",),
    "scipy": ("scipy.stats", "scipy.signal"),  # it imports its parts when they are used, and these most others
    "seaborn": ("seaborn",),
    "sklearn": tuple("sklearn." + part for part in _SKLEARN),
    "sympy": ("sympy",),
    "yaml": ("yaml",),
}
# Files that a package reads where a program starts, when it is imported: what is imported ahead does not know them.
_FILES = ("matplotlibrc",)
# Variables of which the same is so, as programs set them; the backend that all have, agg, may be chosen once more.
_VARIABLES = re.compile(
    r"\b(?:MATPLOTLIBRC|MPLBACKEND|MPLCONFIGDIR|"
    r"(?:BLIS|GOTO|MKL|NETWORKX|NPY|NUMEXPR|NUMPY|OMP|OPENBLAS|OPENPYXL|PANDAS|PYDANTIC|SCIPY|SYMPY)_[A-Z_]+)"
    r"""=?["'](?!\W*(?i:agg)\b)"""
)

# Modules of the standard library that do something to be seen, or start something, when they are imported.
_NEVER = frozenset(
    {"__main__", "antigravity", "idlelib", "lib2to3", "readline", "site", "test", "this", "tkinter", "turtle"}
)
# Their threads do not survive a fork; a package that imports them itself is not preloaded either.
_BREAK_FORKS = frozenset({"grpc", "jax", "polars", "tensorflow", "torch"})

_LOOKED_AT_CHARACTERS = 1_000_000

_STANDARD = frozenset(name for name in sys.stdlib_module_names if not name.startswith("_")) - _NEVER
_KNOWN = _STANDARD.union(*_PACKAGES.values())


def worthwhile(modules: Iterable[str]) -> frozenset[str]:
    """Of the top-level names that a program imported (hostile input), what to import ahead for the next ones."""
    names = frozenset(modules)
    if names & _BREAK_FORKS:
        return frozenset()
    return (names & _STANDARD).union(*(_PACKAGES[name] for name in names & _PACKAGES.keys()))


def is_set_up_by(code: str) -> bool:
    """Whether `code` sets a variable that packages read when they are imported, as far as its text tells."""
    return _VARIABLES.search(code) is not None


def is_set_up_beside(script: Path) -> bool:
    """Whether packages that `script` imports are set up by it, or by a file in its folder."""
    try:
        with script.open(encoding="utf-8", errors="replace") as file:
            code = file.read(_LOOKED_AT_CHARACTERS)
    except OSError:  # the program meets it again
        return False
    return is_set_up_by(code) or any((script.parent / name).exists() for name in _FILES)


def known(modules: Iterable[str]) -> frozenset[str]:
    """Those of `modules` that may be imported ahead at all."""
    return frozenset(modules) & _KNOWN


def is_standard(module: str) -> bool:
    """Whether a module belongs to the standard library: these weigh little."""
    return module in sys.stdlib_module_names


def packages(modules: Iterable[str]) -> set[str]:
    """The top-level names of those outside it: a program that uses one of them has its name in it."""
    return {name.split(".")[0] for name in modules if not is_standard(name)}
