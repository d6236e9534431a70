"""What is imported ahead changes nothing that a program observes: each runs in an interpreter that has imported
nothing, and twice in one that has imported what it uses and much beside it."""

import re
from collections.abc import AsyncGenerator, Iterable

import pytest

from mcp_python_executor.execution import preload
from mcp_python_executor.execution.model import ExecutionResult, Interpreter, Status
from mcp_python_executor.limits import Limits
from tests.bench import Bench, bench_in

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

AHEAD = (
    *("asyncio", "atexit", "concurrent", "csv", "datetime", "decimal", "email", "functools", "gettext", "hashlib"),
    *("http", "inspect", "json", "locale", "logging", "matplotlib", "multiprocessing", "numpy", "pandas", "pickle"),
    *("random", "secrets", "signal", "socket", "sqlite3", "ssl", "statistics", "subprocess", "sysconfig", "tempfile"),
    *("threading", "time", "unittest", "urllib", "uuid", "warnings", "xml", "zoneinfo"),
)
# A program that mentions a package is given the interpreter that has them all.
_MENTIONS = "\n# numpy, pandas, matplotlib\n"

PROGRAMS = {
    "seeded random numbers": """
import random, numpy as np
random.seed(7), np.random.seed(7)
print(random.random(), np.random.rand(), np.random.RandomState(3).normal(), np.random.default_rng(3).random())
""",
    "__main__": """
import inspect, sys
def double(x):
    return 2 * x
print(__name__, __file__ == sys.argv[0], __spec__, __package__, type(__builtins__), sorted(globals()))
print(inspect.getsource(double), sys.modules["__main__"].double is double, inspect.getmodule(double))
""",
    "modules": """
import sys
names = set(sys.modules)
print([name for name in names if name.split(".")[0] in ("inside", "mcp_python_executor")])
import json, matplotlib.pyplot, numpy.random, pandas
print(all(sys.modules[name] is not None for name in ("json", "matplotlib.pyplot", "numpy.random", "pandas")))
print(sys.modules["numpy"].random is numpy.random, [type(finder).__name__ for finder in sys.meta_path[-3:]])
try:
    import matplotlib.missing
except ModuleNotFoundError as error:
    print(error, error.name)
""",
    "arguments and paths": """
import os, sys
print(sys.argv, sys.path, os.getcwd(), os.listdir(), os.path.relpath(__file__), sys.executable, sys.prefix, sys.flags)
""",
    "environment": "import os\nprint(sorted(os.environ.items()), os.umask(0), os.getpriority(0, 0), os.getlogin)",
    "warnings": """
import sys, warnings
for _ in range(2):
    for kind in (UserWarning, DeprecationWarning, PendingDeprecationWarning, ResourceWarning, FutureWarning):
        warnings.warn("said", kind)
warnings.warn("and again")
import matplotlib.pyplot, numpy, pandas, re
print(sorted(map(str, warnings.filters)), sys.warnoptions, warnings.showwarning is warnings._showwarning_orig)
numpy.float64(1) / numpy.float64(0)
numpy.matrix([1])
pandas.to_datetime(["1 of May", "2020"], errors="coerce")
""",
    "threads": """
import os, threading
print(threading.active_count(), threading.enumerate(), threading.main_thread().native_id == os.getpid())
seen = []
thread = threading.Thread(target=lambda: seen.append((threading.current_thread().name, threading.active_count())))
thread.start(), thread.join()
print(seen, threading.stack_size(), threading.excepthook.__name__)
threading.Thread(target=lambda: 1 / 0).start()
""",
    "BLAS with all its threads": """
import os, numpy as np
print(len(os.listdir("/proc/self/task")) <= os.cpu_count())
a = np.ones((700, 700))
print((a @ a).sum(), len(os.listdir("/proc/self/task")) - os.cpu_count(), np.linalg.eigvalsh(np.eye(3)))
if os.fork() == 0:
    print((a @ a).sum(), flush=True)
    os._exit(0)
os.wait()
""",
    "variables that packages read": """
import os
os.environ["OPENBLAS_NUM_THREADS"], os.environ["MPLBACKEND"] = "1", "svg"
import numpy as np, matplotlib.pyplot as plt
a = np.ones((700, 700))
print((a @ a).sum(), len(os.listdir("/proc/self/task")), plt.get_backend())
""",
    **{
        f"multiprocessing by {method}": f"""
import multiprocessing, os
def work(x):
    import numpy as np
    return x * x, float(np.dot([x], [x])), multiprocessing.current_process().name.split("-")[0], __name__
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    with context.Pool(2) as pool:
        print(sorted(pool.map(work, range(3), 1)))
    ours, theirs = context.Pipe()
    process = context.Process(target=theirs.send, args=("sent",))
    process.start()
    print(ours.recv(), process.name, process.daemon, process.join(), process.exitcode)
    print(multiprocessing.current_process(), multiprocessing.parent_process(), multiprocessing.active_children())
    print(multiprocessing.process.ORIGINAL_DIR == os.getcwd(), multiprocessing.get_start_method())
"""
        for method in ("fork", "spawn", "forkserver")
    },
    "asyncio": """
import asyncio, signal, sys
async def main():
    loop = asyncio.get_running_loop()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=asyncio.subprocess.PIPE)
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, told.set)
    signal.raise_signal(signal.SIGUSR1)
    await told.wait()
    in_thread = await asyncio.to_thread(sum, [1, 2])
    return (await process.communicate())[0], type(loop).__name__, asyncio.current_task().get_name(), in_thread
print(asyncio.run(main()))
""",
    "subprocesses": """
import os, subprocess, sys
look = "import os, sys; print(sorted(os.environ), os.getcwd(), sys.argv, sorted(os.listdir('/proc/self/fd')))"
print(subprocess.run([sys.executable, "-c", look, "x"], capture_output=True, text=True))
print(subprocess.run("exit 3", shell=True).returncode, os.popen("echo said").read(), os.system("echo straight"))
""",
    "descriptors": """
import os, stat
for number in range(64):
    try:
        print(number, stat.S_IFMT(os.fstat(number).st_mode), os.get_inheritable(number))
    except OSError:
        pass
""",
    "signals": """
import os, signal, time
print({number: str(signal.getsignal(number)) for number in signal.valid_signals()}, signal.pthread_sigmask(0, []))
print(signal.getitimer(signal.ITIMER_REAL), signal.set_wakeup_fd(-1), signal.sigpending())
signal.signal(signal.SIGALRM, lambda *_: print("rang"))
signal.setitimer(signal.ITIMER_REAL, 0.01)
signal.pause()
try:
    os.kill(os.getpid(), signal.SIGINT), time.sleep(5)
except KeyboardInterrupt:
    print("interrupted")
os.kill(os.getpid(), signal.SIGTERM)
""",
    "locale": """
import locale, sys
print(locale.getlocale(), locale.setlocale(locale.LC_ALL), locale.localeconv(), locale.getpreferredencoding())
print(f"{1234567.5:n}", sys.getfilesystemencoding(), sys.getdefaultencoding())
""",
    "time zone": """
import datetime, time, zoneinfo, pandas
moment = datetime.datetime(2026, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
print(time.tzname, time.timezone, time.daylight, datetime.datetime(2026, 1, 1).astimezone().tzinfo, moment)
print(pandas.Timestamp(moment).tz_convert("Asia/Tokyo"), pandas.to_datetime("1/2/49"), time.localtime(0))
""",
    "logging": """
import logging
handler = logging.StreamHandler()
handler.setFormatter(logging.Formatter("%(name)s %(message)s %(processName)s %(threadName)s"))
logging.warning("said")
record = logging.makeLogRecord({})
print(0 <= record.relativeCreated < 10_000, logging.getLogger("x").getEffectiveLevel(), logging.lastResort)
logging.getLogger("x").addHandler(handler)
logging.getLogger("x").error("said too")
""",
    "temporary files": """
import os, tempfile
print(tempfile.gettempdir(), tempfile.tempdir, os.listdir(tempfile.gettempdir()), os.path.expanduser("~"))
with tempfile.NamedTemporaryFile() as file, tempfile.TemporaryDirectory() as directory:
    print(os.path.dirname(file.name) == os.path.dirname(directory) == tempfile.gettempdir())
""",
    "streams": """
import io, os, sys
for stream in (sys.stdin, sys.stdout, sys.stderr):
    print(stream, stream.errors, stream.isatty(), stream.seekable(), stream.line_buffering, stream.write_through,
          stream.newlines, type(stream.buffer), stream.buffer.raw, os.get_blocking(stream.fileno()))
print(sys.stdin.readline(), [*sys.stdin], sys.__stdout__ is sys.stdout, file=sys.stderr)
os.write(1, b"straight\\n"), print("\\udc80".encode("utf-8", "surrogateescape"), end="")
sys.stdout.buffer.write(b"last")
""",
    "interpreter": """
import decimal, gc, resource, sys
print(sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), gc.get_threshold(), gc.garbage, gc.callbacks)
print(decimal.getcontext(), sys.excepthook, sys.displayhook, sys.gettrace(), sys.get_int_max_str_digits())
print([resource.getrlimit(number) for number in range(16)], float("0.1") + 0.2, sys.thread_info, sys.hash_info)
""",
    "ends": """
import atexit, threading
atexit.register(print, "first registered")
atexit.register(print, "last registered")
threading.Thread(target=print, args=("thread",)).start()
raise ValueError("ended")
""",
    "numpy": """
import numpy as np
print(np.geterr(), np.get_printoptions(), np.array([1.5, 2]), np.__config__.show("dicts")["Build Dependencies"]["blas"])
""",
    "pandas": """
import pandas as pd
print(pd.DataFrame({"a": [1, 2], "b": ["x", None]}).describe(include="all"), pd.describe_option(_print_desc=False))
pd.DataFrame({"a": [3, 1]}).sort_values("a")
""",
    "matplotlib before any figure": """
import os, sys, matplotlib, matplotlib.pyplot as plt
from matplotlib import _pylab_helpers, font_manager
print(dict(matplotlib.rcParams), plt.get_fignums(), _pylab_helpers.Gcf.figs, plt.isinteractive(), plt.get_backend())
print([(place(), os.path.isdir(place())) for place in (matplotlib.get_configdir, matplotlib.get_cachedir)])
print(font_manager._get_font.cache_info(), plt.figure().number, plt.gcf().get_axes(), font_manager.findfont("serif"))
plt.close("all")
""",
    "figures": """
import hashlib, numpy as np, matplotlib.pyplot as plt
figure, axes = plt.subplots(2)
axes[0].plot(np.arange(5), label="line"), axes[0].legend(), axes[1].hist([1, 2, 2]), axes[1].set_title("$x^2$")
axes[1].set_xlabel("no such glyph: \\u4e2d"), plt.savefig("figure.png"), plt.savefig("figure.png")
print(hashlib.sha256(open("figure.png", "rb").read()).hexdigest(), [text.get_text() for text in axes[0].texts])
""",
    "figures left open": "import matplotlib.pyplot as plt\nplt.plot([1, 3])\nplt.figure(7)\nplt.gcf().number",
}

# The walls keep a fork server from its socket: it is refused in both.
FAILS = ("ends", "signals", "multiprocessing by forkserver")

# Each number must be another one in each run.
DRAWS = """
import multiprocessing, os, random, secrets, tempfile, uuid
import numpy as np
print(random.random(), random.SystemRandom().random(), np.random.rand(), np.random.default_rng().random())
print(np.random.permutation(10**6)[0], secrets.token_hex(), uuid.uuid4(), uuid.uuid1(), os.urandom(8).hex())
print(tempfile.mktemp(), multiprocessing.current_process().authkey.hex(), np.random.get_state()[1][0])
"""


@pytest.fixture(scope="module")
async def told(
    tmp_path_factory: pytest.TempPathFactory, plotting_interpreter: Interpreter
) -> AsyncGenerator[dict[str, Bench]]:
    """A bench whose interpreter imports nothing ahead, and one whose interpreter has imported `AHEAD`."""
    limits, directory = Limits(wall_seconds=60), tmp_path_factory.mktemp("benches")
    async with (
        bench_in(directory / "cold", within=plotting_interpreter, limits=limits) as cold,
        bench_in(directory / "preloaded", within=plotting_interpreter, limits=limits) as preloaded,
    ):
        preloaded.zygotes.learn(preloaded.surroundings, AHEAD)
        await preloaded.zygotes.warm(preloaded.surroundings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(preload, "worthwhile", nothing)
            yield {"cold": cold, "preloaded": preloaded}


def nothing(_: Iterable[str]) -> frozenset[str]:
    """No module is worth to be imported ahead."""
    return frozenset()


@pytest.fixture(autouse=True)
def nothing_leaks() -> None:
    """The benches outlive each test, and fork their next spare behind it."""


def observed(result: ExecutionResult, bench: Bench) -> tuple[object, ...]:
    """All that a program tells, but for the names of its directories and where objects and threads lie."""
    error = result.error and (result.error.type, result.error.message, result.error.traceback)
    texts = re.sub(
        rf"{re.escape(str(bench.zygotes.engine.runs))}/\w+/\w+|0x[0-9a-f]+|\d{{15}}",
        "…",
        repr((result.stdout, result.stderr, error)),
    )
    pictures = [picture.data for picture in result.pictures]
    return texts, result.status, result.exit_code, result.signal, result.result, pictures


@pytest.mark.parametrize("what", PROGRAMS)
async def test_a_program_observes_the_same(told: dict[str, Bench], what: str):
    code = PROGRAMS[what] + _MENTIONS
    cold = await told["cold"].run(code, stdin=b"one\ntwo\n", args=("a", "b c"))
    assert cold.status is Status.OK or what in FAILS, cold
    for _ in range(2):
        preloaded = await told["preloaded"].run(code, stdin=b"one\ntwo\n", args=("a", "b c"))
        assert observed(preloaded, told["preloaded"]) == observed(cold, told["cold"])


async def test_no_two_runs_draw_the_same(told: dict[str, Bench]):
    runs = [(await told["preloaded"].run(DRAWS + _MENTIONS)).stdout.split() for _ in range(3)]
    assert all(len(set(drawn)) == len(runs) for drawn in zip(*runs, strict=True)), runs


async def test_the_one_interpreter_is_cold_and_the_other_is_not(told: dict[str, Bench]):
    code = "import sys\n[name in sys.modules for name in ('numpy', 'pandas', 'matplotlib.pyplot', 'multiprocessing')]"
    assert (await told["cold"].run(code + _MENTIONS)).result == str([False] * 4)
    assert (await told["preloaded"].run(code + _MENTIONS)).result == str([True] * 4)


async def test_fonts_are_looked_for_ahead(told: dict[str, Bench]):
    looks = "sorted(os.listdir(plt.matplotlib.get_cachedir()))"
    code = f"import os, matplotlib.pyplot as plt\nplt.savefig('x.png')\n{looks}"
    assert "fontlist" in str((await told["cold"].run(code)).result)
    assert (await told["preloaded"].run(code)).result == "[]"
