"""What a program that failed could do next: one line beside its error, where one helps."""

import errno
from pathlib import Path

from mcp_python_executor.execution.report import ReportedError

_PATH_ERRORS = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.EROFS)

# In the traceback of what shares memory or locks between processes: refused where a run has no /dev/shm of its own.
_SHARING = ("SemLock", "shared_memory")
_NOTHING_SHARED = (
    "processes share no memory and no locks here, for this machine gives a program no /dev/shm of its own (the doctor "
    "command tells what is missing); use threads, or subprocesses that speak through pipes"
)

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


def hint(error: ReportedError, venv_name: str) -> str:
    """A hint for an error as a worker reports it; empty where none helps."""
    if error.type == "ModuleNotFoundError" and error.name:
        module = error.name.split(".")[0]
        package = _DISTRIBUTIONS.get(module, module)
        return f"install it with install_packages(packages={[package]!r}, venvName={venv_name!r})"
    if error.type == "PermissionError" and any(word in error.traceback for word in _SHARING):
        return _NOTHING_SHARED
    if error.type == "PermissionError" and "forkserver" in error.traceback:
        return "a fork server needs a Unix socket, and programs have none; use multiprocessing.get_context('spawn')"
    if error.filename and error.errno in _PATH_ERRORS:
        return _path_hint(error.filename, error.errno)
    if error.type in ("PermissionError", "gaierror") and "socket" in error.traceback:
        return "programs have no network here; the setting NETWORK_ACCESS=full opens it"
    return ""


def _path_hint(filename: str, number: int) -> str:
    if number == errno.EROFS:
        return "write into the current directory, the temporary directory or os.environ['OUTPUT_PATH'] instead"
    try:
        outside = Path(filename).is_absolute() and Path(filename).exists()
    except (OSError, ValueError):
        return ""
    if not outside:
        return ""
    return f"{filename!r} exists on the host but is outside the walls; the setting READ_PATHS lets programs read it"
