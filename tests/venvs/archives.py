"""Interpreters to download: a small archive of the one that runs the tests, laid out as uv's own and told to be of
another version, and who serves it."""

import http.server
import io
import json
import platform
import tarfile
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mcp_python_executor.venvs.pythons import Interpreter

# As in uv's own list, so that UV_PYTHON_INSTALL_MIRROR applies to it.
_HOST = "https://github.com/astral-sh/python-build-standalone/releases/download"
# Of the standard library, what no test needs.
_LEFT_OUT = frozenset(
    ["test", "tests", "idlelib", "site-packages", "lib2to3", "ensurepip", "turtledemo", "tkinter", "__pycache__"]
)


def other_version(python: Interpreter, taken: Iterable[str]) -> str:
    """A version as long as that of `python`, of the same minor one, that is not among those `taken`."""
    near = (python.version[:-1] + digit for digit in "123456789")
    return next(version for version in near if version not in (python.version, *taken))


def pack(python: Interpreter, archive: Path, version: str) -> None:
    """Write `python` as `archive`, so that it runs wherever it is unpacked, and says that it is of `version`."""
    texts = {f"{python.prefix}/lib\0": "$ORIGIN/../lib", f"{python.version}\0": version}
    library = f"lib/python{python.minor}"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        _add_binary(tar, python.prefix, f"bin/python{python.minor}", texts)
        for name in ("python", "python3"):
            link = tarfile.TarInfo(f"python/bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, f"python{python.minor}"
            tar.addfile(link)
        for path in (python.prefix / "lib").glob("libpython*.so.*"):
            _add_binary(tar, python.prefix, f"lib/{path.name}", texts)
        tar.add(python.prefix / library, f"python/{library}", filter=_needed)


def _add_binary(tar: tarfile.TarFile, prefix: Path, name: str, texts: Mapping[str, str]) -> None:
    """With `texts` in it replaced by as many bytes: where it looks for its shared library, see ld.so(8) on $ORIGIN, and
    the version."""
    content = (prefix / name).read_bytes()
    for old, new in texts.items():
        content = content.replace(old.encode(), new.encode().ljust(len(old), b"\0"))
    entry = tarfile.TarInfo(f"python/{name}")
    entry.size, entry.mode = len(content), 0o755
    tar.addfile(entry, io.BytesIO(content))


def _needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    inner = entry.name.split("/")[3:]
    if entry.issym() and entry.linkname.startswith("/"):  # Debian's leads into /etc
        return None
    return None if any(part in _LEFT_OUT or part.startswith("config-") for part in inner) else entry


def listing(path: Path, version: str, *, sha256: str | None = None) -> str:
    """Write the list of what there is to download at `path`: one of `version` alone. Returns uv's name for it."""
    major, minor, patch = version.split(".")
    key = f"cpython-{major}.{minor}.{patch}-linux-{platform.machine()}-gnu"
    entry = {
        "name": "cpython",
        "arch": {"family": platform.machine(), "variant": None},
        "os": "linux",
        "libc": "gnu",
        "major": int(major),
        "minor": int(minor),
        "patch": int(patch),
        "prerelease": "",
        "url": f"{_HOST}/1/python.tar.gz",
        "sha256": sha256,
        "variant": None,
        "build": "1",
    }
    path.write_text(json.dumps({key: entry}))
    return key


@dataclass
class Mirror:
    """Serves one archive. Half of it has been sent when `half_sent` is set; the rest waits for `may_go_on`."""

    archive: Path
    url: str = ""
    asked: int = 0
    half_sent: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)

    def send(self, write: Callable[[bytes], object]) -> None:
        content = self.archive.read_bytes()
        write(content[: len(content) // 2])
        self.half_sent.set()
        if self.may_go_on.wait(60):
            write(content[len(content) // 2 :])


@dataclass
class Offer:
    """What there is to download: its version, uv's name for it, the mirror that has it, and the way there."""

    version: str
    key: str
    mirror: Mirror
    environment: dict[str, str]


@contextmanager
def served(archive: Path) -> Generator[Mirror]:
    """A mirror of `archive` on this machine, while the block runs."""
    mirror = Mirror(archive)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mirror.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", str(archive.stat().st_size))
            self.end_headers()
            try:
                mirror.send(self.wfile.write)
            except OSError:  # whoever asked is gone
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Nothing on our standard error."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        mirror.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield mirror
        finally:
            mirror.may_go_on.set()
            server.shutdown()
            thread.join()
