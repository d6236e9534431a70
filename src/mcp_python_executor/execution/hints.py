"""What a program that failed could do next: one line beside its error, where one helps."""

import errno
from pathlib import Path

from mcp_python_executor.execution.report import ReportedError

_NOT_SEEN = (errno.EACCES, errno.EPERM, errno.ENOENT)

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
    if error.filename and error.errno == errno.EROFS:
        return "write into the current directory, the temporary directory or os.environ['OUTPUT_PATH'] instead"
    if error.type in ("PermissionError", "gaierror") and not error.filename and "socket" in error.traceback:
        return "programs have no network here; the setting NETWORK_ACCESS=full opens it"
    return ""


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
