"""What a model is told about the server and its tools before its first call, with the settings in force."""

from mcp_python_executor.settings import Isolation, NetworkAccess, Settings


def instructions(settings: Settings) -> str:
    """What to know before the first call."""
    return (
        "Runs Python programs on the user's machine with execute_python, each in one of several virtual environments. "
        "Environments start with the standard library and nothing else: add packages with install_packages. Every "
        f"tool without venvName means the environment {settings.default_venv_name!r}. Each execution is a new process: "
        "variables do not stay, so give a whole program each time. "
        f"In a program, {_writing(settings)} Reading: {_reading(settings)} scriptPath names a script below "
        f"{_roots(settings)}. {_limits(settings)}"
    )


def execute_python(settings: Settings) -> str:
    """The description of execute_python."""
    return f"""\
Run a Python program and get what it printed, the value of its last expression, the error it raised and the files it \
made.

Give exactly one of code (a whole program) and scriptPath (the absolute path of a script below \
{_roots(settings)}, run in its own folder). Each execution is a new process: variables and imports do not stay from \
one call to the next.

- Packages: only the standard library is there until install_packages adds more; list_packages tells what is installed.
- Input: the program reads inputData on standard input, one element a line. Without it input() raises EOFError at once.
- Output: {_writing(settings)}
- Reading: {_reading(settings)}
- Figures that matplotlib leaves open come back as pictures without being saved.
- {_limits(settings)}

A program that fails is a result: status, error with traceback, and what it printed until then."""


def _roots(settings: Settings) -> str:
    return ", ".join(map(str, settings.script_roots))


def _writing(settings: Settings) -> str:
    if settings.output_path:
        place = f"it is {settings.output_path} on the user's machine, and every execution sees it"
    else:
        place = "it is fresh for each execution"
    return (
        f"write files under os.environ['OUTPUT_PATH']: {place}. Code may also write to its working directory, which is "
        "fresh each time. The result lists the files written in both."
    )


def _reading(settings: Settings) -> str:
    if settings.isolation is Isolation.NONE:
        return "the program reads whatever the user may read."
    opened = ", ".join(str(path) for path in settings.read_paths)
    if opened:
        return f"of the user's files the program reads {opened} and nothing else; a script reads its own folder too."
    return "the program can't read the user's files; a script reads its own folder."


def _limits(settings: Settings) -> str:
    network = "with network" if settings.network_access is NetworkAccess.FULL else "no network"
    if settings.isolation is Isolation.NONE:
        network = "no isolation: a program has all the user's rights"
    return (
        f"Limits: {settings.execution_timeout_ms / 1000:g} s, {settings.max_memory_mb} MB of memory, "
        f"{settings.max_output_bytes} bytes of each output shown, {network}."
    )


INSTALL_PACKAGES = """\
Install Python packages into an environment, with what they need; an environment that does not exist is made first.

Takes requirements as pip does: names, versions, extras. All of them are installed or, on an error, nothing changes. \
Asking again for what is installed does nothing. Use the distribution's name, which may differ from the import's: \
opencv-python for cv2, scikit-learn for sklearn, pillow for PIL."""

READ_OUTPUT = """\
Read on in a long output, or in a file, of an earlier execute_python result: what the result shows cut, by pages of \
bytes. Text comes as text, anything else as base64. Reads nothing but what that result lists."""

UNINSTALL_PACKAGES = """\
Remove Python packages from an environment, and what only they needed. Either all are removed or nothing is changed."""

LIST_PACKAGES = """\
List the installed packages of an environment, with versions; the standard library needs no installing and is not \
listed."""

LIST_VENVS = """\
List every environment: name, description, Python version, number of packages, state. The default one is marked."""

CREATE_VENV = """\
Make an empty environment: the standard library and nothing else. install_packages makes a missing one by itself; use \
this for a certain Python version or a description."""

DELETE_VENV = """\
Delete an environment with its packages, for good. The default environment needs confirm: true. Programs that run in \
it still end normally."""

SET_VENV_DESCRIPTION = """\
Change the description of an environment: what it is for, as list_venvs shows it."""

HEALTH_CHECK = """\
Tell whether the server can do its work: isolation, limits, executions, environments, disk, and every problem with \
its cure. Call it when executions fail for no reason of the program's own. With venvName, checks that environment in \
depth."""
