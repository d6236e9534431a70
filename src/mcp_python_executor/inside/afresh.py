"""What modules hold since they were imported and is a run's own: each run gets it anew, as if it had imported them.

`random` and `tempfile`'s names do it themselves, after each fork.
"""

from __future__ import annotations

import itertools
import os
import sys
import time

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from typing import Any


def take() -> None:
    """Once in each run, when its environment and its directory are set."""
    for name, anew in _ANEW.items():
        module = sys.modules.get(name)
        if module is not None:
            anew(module)


def _start_of_logging(logging: Any) -> None:
    """The time of which records tell their distance: `relativeCreated`."""
    logging._startTime = time.time_ns() if isinstance(logging._startTime, int) else time.time()  # noqa: SLF001


def _place_and_key(process: Any) -> None:
    process.ORIGINAL_DIR = os.getcwd()
    process.current_process().authkey = os.urandom(32)


def _temporary_directory(tempfile: Any) -> None:
    tempfile.tempdir = None


def _numbers(module: Any) -> None:
    """A generator that was seeded at import: every run would draw the same numbers."""
    module.seed()


def _names_of_threads(threading: Any) -> None:
    """A thread that an import started, and that has ended, counts in the names of the next: `Thread-1`."""
    threading._counter = itertools.count(1).__next__  # noqa: SLF001


def _dummies(symbol: Any) -> None:
    """Symbols of two runs differ, though they are pickled."""
    dummy = symbol.Dummy
    dummy._prng.seed()  # noqa: SLF001
    dummy._base_dummy_index = dummy._prng.randint(10**6, 9 * 10**6)  # noqa: SLF001


def _year(parser: Any) -> None:
    """The year from which years of two digits are understood."""
    parser.DEFAULTPARSER.info = parser.parserinfo()


def _places(matplotlib: Any) -> None:
    """It made these directories when it was imported."""
    for place in (matplotlib.get_configdir(), matplotlib.get_cachedir()):
        os.makedirs(place, exist_ok=True)


_ANEW = {
    "dateutil.parser": _year,
    "logging": _start_of_logging,
    "matplotlib": _places,
    "multiprocessing.process": _place_and_key,
    "numpy.random": _numbers,
    "sympy.core.random": _numbers,
    "sympy.core.symbol": _dummies,
    "tempfile": _temporary_directory,
    "threading": _names_of_threads,
}
