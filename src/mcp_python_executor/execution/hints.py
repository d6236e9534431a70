"""What a program that failed could do next: one line beside its error, where one helps."""

import errno
import os
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from mcp_python_executor.execution.report import ReportedError
from mcp_python_executor.sandbox.policy import SYSTEM_DIRECTORIES

_NOT_SEEN = (errno.EACCES, errno.EPERM, errno.ENOENT)

# In the traceback of what shares memory or locks between processes: refused where a run has no /dev/shm of its own.
_SHARING = ("SemLock", "shared_memory")
_NOTHING_SHARED = (
    "processes share no memory and no locks here, for this machine gives a program no /dev/shm of its own (the doctor "
    "command tells what is missing); use threads, or subprocesses that speak through pipes"
)
# In the traceback of whoever wants to reach another machine: names are not resolved, sockets are refused.
_NETWORK = re.compile(r"\bgaierror\b|NameResolutionError|/socket\.py\"|socket\.socket\(|Network is unreachable")
_NO_NETWORK = "programs have no network here; the setting NETWORK_ACCESS=full opens it"
_NOTEBOOK_LINE = re.compile(r"^ *([!%]{1,2})(\S+)(.*)$", re.MULTILINE)
_INSTALLS = re.compile(r"(?:python3? -m )?(?:uv )?(?:pip3?|conda|mamba) install\b(.*)")
# Options of theirs that take no value and change nothing of what is asked for.
_IDLE_OPTIONS = frozenset(["-q", "-qq", "--quiet", "-y", "--yes", "-U", "--upgrade", "--no-cache-dir", "--user"])

# Here the machine shows a program things of its own, or parts: what the host has there tells nothing.
_OWN = ("/dev", "/proc", "/sys")
_PARTLY_OWN = frozenset(map(Path, ("/", "/etc", "/tmp", "/var/tmp")))  # noqa: S108

# Modules whose distribution has another name, as the package index has them.
_DISTRIBUTIONS = {
    "Bio": "biopython",
    "Crypto": "pycryptodome",
    "MySQLdb": "mysqlclient",
    "OpenGL": "pyopengl",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "Xlib": "python-xlib",
    "absl": "absl-py",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "community": "python-louvain",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "decouple": "python-decouple",
    "discord": "discord-py",
    "dns": "dnspython",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "environ": "django-environ",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "git": "gitpython",
    "google.genai": "google-genai",
    "google.protobuf": "protobuf",
    "googleapiclient": "google-api-python-client",
    "hydra": "hydra-core",
    "imblearn": "imbalanced-learn",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "kafka": "kafka-python",
    "ldap": "python-ldap",
    "magic": "python-magic",
    "mpl_toolkits": "matplotlib",
    "multipart": "python-multipart",
    "nacl": "pynacl",
    "osgeo": "gdal",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "pylab": "matplotlib",
    "rest_framework": "djangorestframework",
    "ruamel": "ruamel-yaml",
    "serial": "pyserial",
    "shapefile": "pyshp",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "skopt": "scikit-optimize",
    "slugify": "python-slugify",
    "socks": "pysocks",
    "stdnum": "python-stdnum",
    "telegram": "python-telegram-bot",
    "umap": "umap-learn",
    "usb": "pyusb",
    "whois": "python-whois",
    "wx": "wxpython",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
# Namespaces that many distributions share: none has the name of theirs.
_SHARED_NAMES = frozenset(["azure", "backports", "google", "zope"])


def hint(error: ReportedError, venv_name: str, *, network: bool = False, script: Path | None = None) -> str:
    """A hint for an error as a worker reports it; empty where none is surely right.

    `network` tells whether the program had one, `script` is the file that was run.
    """
    if script and _is_shadowed(error, script.stem):
        return f"the script's own name hides the module {script.stem!r} from imports; rename {script.name}"
    match error.type:
        case "ModuleNotFoundError" if error.name:
            return _missing_module(error.name, venv_name, script)
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


def _missing_module(module: str, venv_name: str, script: Path | None) -> str:
    """Python names the outermost package that is missing: a name with a dot is a part that another one lacks."""
    package = _DISTRIBUTIONS.get(module, "")
    if package:
        return f"install it with install_packages(packages={[package]!r}, venvName={venv_name!r})"
    if module == "IPython":
        return "display(...) is a built-in here, as in a notebook; leave the import out"
    if "." in module or module in sys.stdlib_module_names or module in _SHARED_NAMES:
        return ""  # no package brings it
    if script and (_is_there(script.parent / module) or _is_there(script.with_name(f"{module}.py"))):
        return ""
    return (
        f"if a package of that name has it, install it with install_packages(packages={[module]!r}, "
        f"venvName={venv_name!r})"
    )


def _is_there(path: Path) -> bool:
    """Whether the host has `path`, of which a program may have chosen a part."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


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
        packages = _packages(installs[1])
        call = f"(packages={packages!r}, venvName={venv_name!r})" if packages else ", which takes names and versions,"
        return f"this is a notebook's line; call install_packages{call} instead"
    if mark.startswith("!"):
        return f"this is a notebook's line; use subprocess.run({command!r}, shell=True) instead"
    return "this is a notebook's magic; leave it out (figures come back by themselves) or use the module it stands for"


def _packages(words: str) -> list[str]:
    """What an install command asks for; nothing where it asks in another way than by names and versions."""
    try:
        asked = [word for word in shlex.split(words) if word not in _IDLE_OPTIONS]
    except ValueError:  # an open quote
        return []
    return [] if any(word.startswith("-") or "/" in word for word in asked) else asked


def may_be_hidden(error: ReportedError, visible: Iterable[Path]) -> bool:
    """Whether the error is about a path that the program can't see, and the host may have.

    `visible` are the files and folders that it sees beside the system's own.
    """
    path = Path(os.path.normpath(error.filename or ""))
    seen = (*visible, *map(Path, (*SYSTEM_DIRECTORIES, *_OWN)))
    return error.errno in _NOT_SEEN and path.is_absolute() and not any(map(path.is_relative_to, seen))


def of_hidden_path(error: ReportedError) -> str:
    """A hint for the path of `error`, or the folder that it should be in, if the host has that; looks at the disk."""
    path = Path(os.path.normpath(error.filename or ""))
    if not _is_there(path):
        path = path.parent
        if path in _PARTLY_OWN or not _is_there(path):
            return ""
    return (
        f"{str(path)!r} exists on the host but is outside the walls; the setting READ_PATHS lets programs read it, "
        "and they write to os.environ['OUTPUT_PATH']"
    )
