"""What a program that failed could do next: one line beside its error, where one helps."""

import errno
import re
import sys
from pathlib import Path

from mcp_python_executor.execution.report import ReportedError

_NOT_SEEN = (errno.EACCES, errno.EPERM, errno.ENOENT)

# In the traceback of what shares memory or locks between processes: refused where a run has no /dev/shm of its own.
_SHARING = ("SemLock", "shared_memory")
_NOTHING_SHARED = (
    "processes share no memory and no locks here, for this machine gives a program no /dev/shm of its own (the doctor "
    "command tells what is missing); use threads, or subprocesses that speak through pipes"
)
# In the traceback of whoever wants to reach another machine: names are not resolved, sockets are refused.
_NETWORK = re.compile(r"\bgaierror\b|NameResolutionError|socket\.py|socket\.socket\(|Network is unreachable")
_NO_NETWORK = "programs have no network here; the setting NETWORK_ACCESS=full opens it"
_NOTEBOOK_LINE = re.compile(r"^ *([!%]{1,2})(\S+)(.*)$", re.MULTILINE)
_INSTALLS = re.compile(r"(?:python3? -m )?(?:uv )?(?:pip3?|conda|mamba) install\b(?: -[\w-]+)*(.*)")

# Modules whose distribution has another name, as the package index has them.
_DISTRIBUTIONS = {
    "Crypto": "pycryptodome",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "gitpython",
    "jwt": "pyjwt",
    "magic": "python-magic",
    "pptx": "python-pptx",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}


def hint(error: ReportedError, venv_name: str, *, network: bool = False, script: Path | None = None) -> str:
    """A hint for an error as a worker reports it; empty where none is surely right.

    `network` tells whether the program had one, `script` is the file that was run.
    """
    if script and _is_shadowed(error, script.stem):
        return f"the script's own name hides the module {script.stem!r} from imports; rename {script.name}"
    match error.type:
        case "ModuleNotFoundError" if error.name:
            return _missing_module(error.name.partition(".")[0], venv_name)
        case "EOFError" if error.message == "EOF when reading a line":
            return "input() reads inputData, one element a line; give as many as the program asks for"
        case "SyntaxError":
            return _notebook_line(error.traceback, venv_name)
        case "PermissionError" if any(word in error.whole for word in _SHARING):
            return _NOTHING_SHARED
        case "PermissionError" if "forkserver" in error.whole:
            return "a fork server needs a Unix socket, and programs have none; use multiprocessing.get_context('spawn')"
        case _:
            pass
    if error.filename and error.errno == errno.EROFS:
        return "write into the current directory, the temporary directory or os.environ['OUTPUT_PATH'] instead"
    if not network and not error.filename and _NETWORK.search(error.whole):
        return _NO_NETWORK
    return ""


def _missing_module(module: str, venv_name: str) -> str:
    if module in sys.stdlib_module_names:
        return ""  # no package brings it
    package = _DISTRIBUTIONS.get(module, module)
    return f"install it with install_packages(packages={[package]!r}, venvName={venv_name!r})"


def _is_shadowed(error: ReportedError, name: str) -> bool:
    """Whether importing `name` gave the script itself, where something of the real module was wanted."""
    if error.type not in ("ImportError", "ModuleNotFoundError", "AttributeError"):
        return False
    return re.search(rf"(?:module|from|named) '{re.escape(name)}['.]", error.message) is not None and (
        name in sys.stdlib_module_names or f"'{name}' is not a package" in error.message or "circular" in error.message
    )


def _notebook_line(traceback: str, venv_name: str) -> str:
    """A line that only notebooks understand, as the traceback of a syntax error shows it."""
    found = _NOTEBOOK_LINE.search(traceback)
    if found is None:
        return ""
    mark, command = found[1], (found[2] + found[3]).strip()
    if installs := _INSTALLS.match(command):
        packages = [word for word in installs[1].split() if not word.startswith("-")]
        return (
            f"this is a notebook's line; call install_packages(packages={packages!r}, venvName={venv_name!r}) instead"
        )
    if mark.startswith("!"):
        return f"this is a notebook's line; use subprocess.run({command!r}, shell=True) instead"
    return "this is a notebook's magic; leave it out (figures come back by themselves) or use the module it stands for"


def may_be_hidden(error: ReportedError) -> bool:
    """Whether the error is about a file that the program can't see, and the host may have."""
    return error.errno in _NOT_SEEN and Path(error.filename or "").is_absolute()


def of_hidden_file(error: ReportedError) -> str:
    """A hint for the file of `error`, if the host has it; looks at the disk."""
    try:
        exists = Path(error.filename or "").exists()
    except (OSError, ValueError):
        return ""
    if not exists:
        return ""
    return (
        f"{error.filename!r} exists on the host but is outside the walls; the setting READ_PATHS lets programs read it"
    )
