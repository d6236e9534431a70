"""A package index on this machine with packages made for a test, any of which can be held up half-way."""

import http.server
import io
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Index:
    """The index at `url`, with one version of each package; `asked` counts how often each wheel was asked for.

    The second half of what is `held` is sent when `may_go_on` is set, and never while the network `is_lost`.
    """

    folder: Path
    held: str
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter[str])
    half_sent: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)
    is_lost: bool = False

    def add(
        self, name: str, files: Mapping[str, str] | None = None, *, unsaid: str = "", said: Sequence[str] = ()
    ) -> None:
        """A package with `files`, by their paths in its wheel.

        Of these its record does not tell the one that is `unsaid`, and it tells what is `said` besides. Without files
        it has one module of its name, so large that half of it is more than what a socket holds back.
        """
        info = f"{name}-1.0.dist-info"
        content = {
            **({f"{name}.py": f"{name} = 1\n#" + "x" * 500_000} if files is None else files),
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},,\n" for path in (*content, *said, f"{info}/RECORD") if path != unsaid)
        with zipfile.ZipFile(self.folder / f"{name}-1.0-py3-none-any.whl", "w", zipfile.ZIP_STORED) as wheel:
            for path, text in {**content, f"{info}/RECORD": record}.items():
                wheel.writestr(path, text)
        # As PEP 658 has it: who resolves needs no wheel.
        (self.folder / f"{name}-1.0-py3-none-any.whl.metadata").write_text(content[f"{info}/METADATA"])

    def add_source(self, name: str, backend: str) -> None:
        """A package that exists only as source; `backend` is the module that builds it: see PEP 517."""
        build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        files = {
            "pyproject.toml": build + f'[project]\nname = "{name}"\nversion = "1.0"\n',
            "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: 1.0\n",
            "backend.py": backend,
        }
        with tarfile.open(self.folder / f"{name}-1.0.tar.gz", "w:gz") as archive:
            for path, text in files.items():
                entry = tarfile.TarInfo(f"{name}-1.0/{path}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))

    def page(self, name: str) -> bytes:
        """What the index has of a package, as PEP 503 has it."""
        wheel = f"{name}-1.0-py3-none-any.whl"
        if not (self.folder / wheel).exists():
            wheel = f"{name}-1.0.tar.gz"
            return f'<a href="/files/{wheel}">{wheel}</a>'.encode()
        return f'<a href="/files/{wheel}" data-core-metadata="true">{wheel}</a>'.encode()


@contextmanager
def open_index(folder: Path, *names: str, held: str) -> Generator[Index]:
    """An index of packages `names` in the new directory `folder`, of which `held` is held up, while the block runs."""
    folder.mkdir()
    index = Index(folder, held)
    for name in names:
        index.add(name)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, name = self.path.strip("/").split("/")
            if kind == "simple":
                self._answer(index.page(name), "text/html")
            else:
                self._answer((index.folder / name).read_bytes(), "application/octet-stream", name)

        def _answer(self, content: bytes, kind: str, name: str = "") -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", kind)
            self.end_headers()
            if name.endswith(".whl"):
                index.asked[name.split("-")[0]] += 1
            try:
                self._send(content, is_held=name.endswith(".whl") and name.startswith(index.held))
            except OSError:  # whoever asked is gone
                self.close_connection = True

        def _send(self, content: bytes, *, is_held: bool) -> None:
            half = len(content) // 2
            self.wfile.write(content[:half])
            if is_held:
                index.half_sent.set()
                index.may_go_on.wait(60)
            self.wfile.write(b"" if is_held and index.is_lost else content[half:])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Nothing on our standard error."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        index.url = f"http://127.0.0.1:{server.server_port}/simple"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield index
        finally:
            index.may_go_on.set()
            server.shutdown()
            thread.join()
