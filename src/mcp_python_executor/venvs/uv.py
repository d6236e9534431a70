"""uv's commands: each behind the outer wall, with an environment of its own, and its failures as PackageError."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uv import find_uv_bin

from mcp_python_executor.errors import PackageError
from mcp_python_executor.process import Completed, run
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs import reasons
from mcp_python_executor.venvs.bounds import INSTALLS, Bounds
from mcp_python_executor.venvs.project import WHEELS
from mcp_python_executor.venvs.pythons import SYSTEM_BINS, Interpreter

Confine = Callable[[Policy, Sequence[str]], list[str]]
"""A command as the same command behind the outer wall that a policy describes."""
Listener = Callable[[str], None]
"""Is told, in a few words, what is being done."""

# What reaches uv of our own environment: how to get to the index, and nothing else.
_PASSED = frozenset(
    name for plain in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for name in (plain, plain.lower())
) | {
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SSL_CLIENT_CERT",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_HTTP_RETRIES",
    "UV_HTTP_TIMEOUT",
    "UV_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_NATIVE_TLS",
    "UV_PYTHON_DOWNLOADS",
    "UV_PYTHON_DOWNLOADS_JSON_URL",
    "UV_PYTHON_INSTALL_MIRROR",
    "UV_SYSTEM_CERTS",
}
# Where systems keep the certificates that they trust, an office's own among them, which uv's bundle lacks. Hosts start
# servers without most variables, SSL_CERT_FILE included.
_TRUSTED = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)
_CREDENTIALS = re.compile(r"UV_INDEX_[A-Z0-9_]+_(USERNAME|PASSWORD)")
# What pip and others call the same thing, where uv's own variable is not set: (uv's, theirs), the first one found.
_TRANSLATED = (
    ("UV_DEFAULT_INDEX", ("UV_INDEX_URL", "PIP_INDEX_URL")),
    ("UV_INDEX", ("UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL")),
    ("UV_INSECURE_HOST", ("PIP_TRUSTED_HOST",)),
    ("SSL_CERT_FILE", ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")),
)
_STAGES = frozenset(["Resolved", "Downloading", "Downloaded", "Prepared", "Installed"])
# An index may have a name (`inner=https://...`), and a proxy need have no scheme.
_URL = re.compile(r"(?P<before>(?:[\w.-]+=)?[A-Za-z][A-Za-z0-9+.-]*://)?(?P<host>[^/?#\\]*)(?P<path>.*)", re.DOTALL)
_PATH = re.compile(r"(?:[\w.-]+=)?(?:file://)?/[^/]")
_PATHS = ("SSL_CERT_DIR", "SSL_CERT_FILE")
# Those that may name a place on this machine.
_URLS = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_PYTHON_DOWNLOADS_JSON_URL", "UV_PYTHON_INSTALL_MIRROR")
_FILE = re.compile(r"(?:^|file://)(/\S+)")


def index_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of our own `environment` that reaches package operations, in uv's words."""
    passed = {name: value for name, value in environment.items() if name in _PASSED or _CREDENTIALS.fullmatch(name)}
    for ours, theirs in _TRANSLATED:
        found = next((environment[name] for name in theirs if environment.get(name)), None)
        if found and not passed.get(ours):
            passed[ours] = found
    for replaced in ("UV_INDEX_URL", "UV_EXTRA_INDEX_URL"):
        passed.pop(replaced, None)
    return {name: value for name, value in passed.items() if value}


def without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` for a process that runs strangers' code. A variable is left out where it may hold some still."""
    passed: dict[str, str] = {}
    for name, value in environment.items():
        if _CREDENTIALS.fullmatch(name) or name == "SSL_CLIENT_CERT":
            continue
        without = value if name in _PATHS else _without_user_info(value)
        if without is not None:
            passed[name] = without
    return passed


def _without_user_info(value: str) -> str | None:
    """The URLs in `value` without who asks; None where that can't be told from the rest."""
    words = re.split(r"(\s+)", value)
    for number, word in enumerate(words):
        if "@" not in word or _PATH.match(word):
            continue
        url = _URL.fullmatch(word)
        # A password with a slash looks like a path, and one with a space like the end of another word.
        if url is None or "@" in url["path"] or (len(words) > 1 and not url["before"]):
            return None
        words[number] = (url["before"] or "") + url["host"].rpartition("@")[2] + url["path"]
    return "".join(words)


@dataclass(frozen=True, slots=True)
class Uv:
    """uv with its cache below `store`, on the index that `index` (environment variables) describes."""

    binary: Path
    store: Path
    index: Mapping[str, str]
    confine: Confine

    @classmethod
    def found(cls, store: Path, environment: Mapping[str, str], confine: Confine) -> "Uv":
        """The uv that came with us."""
        return cls(Path(find_uv_bin()), store, index_environment(environment), confine)

    @property
    def cache(self) -> Path:
        """Where downloads are kept."""
        return self.store / "cache"

    @property
    def asked(self) -> Path:
        """Where it is kept what interpreters told of themselves."""
        return self.store / "asked"

    async def lock(
        self, project: Path, interpreter: Interpreter, *, offline: bool = False, listener: Listener | None = None
    ) -> Completed:
        """Resolve what the project in the directory `project` asks for. A failure is in the answer."""
        command = ["lock", "--no-build", *self._project(project, interpreter)]
        command += ["--offline"] if offline else []
        policy = self._policy(project, interpreter, write=(self.cache, project))
        return await self._run(command, policy, listener)

    async def sync(
        self,
        project: Path,
        interpreter: Interpreter,
        target: Path,
        *,
        without: Iterable[str] = (),
        pass_fds: Sequence[int] = (),
        listener: Listener | None = None,
    ) -> None:
        """Make the environment that the lock in `project` describes at the empty directory `target`.

        Nothing runs in it: uv asks the interpreter of an environment only where it finds one. What it is `without` are
        packages that are not installed.

        Raises:
            PackageError: it can't be made.
        """
        command = ["sync", "--frozen", "--no-build", "--no-install-project", *self._project(project, interpreter)]
        command += [part for name in sorted(without) for part in ("--no-install-package", name)]
        # A hard link crosses no mount (link(2), EXDEV): cache and target are opened by the one directory above both.
        # Nothing but uv runs here, and what else of the store matters is read-only.
        closed = tuple(
            self.store / name for name in ("venvs", "locks", "leases", "moves", "blueprints", "pythons", "asked")
        )
        policy = self._policy(project, interpreter, read=closed, write=(self.store,), target=target)
        raise_for(await self._run(command, policy, listener, pass_fds=pass_fds))

    async def venv(
        self, workshop: Path, interpreter: Interpreter, target: Path, *, pass_fds: Sequence[int] = ()
    ) -> None:
        """Make an environment without packages at the empty directory `target`.

        Raises:
            PackageError: it can't be made.
        """
        command = ["venv", "--no-project", "--offline", "--python", str(interpreter.python), str(target)]
        policy = self._policy(workshop, interpreter, write=(self.cache, workshop, target))
        raise_for(await self._run(command, policy, None, pass_fds=pass_fds))

    async def pythons(self, directories: Sequence[Path]) -> list[Interpreter]:
        """The CPython interpreters in `directories`.

        Each is started, and may be anybody's: it writes where nothing is installed from, and its packages are hidden.

        Raises:
            PackageError: uv failed.
        """
        if not directories:
            return []
        # Beside a `bin` stand the libraries that its interpreters need. The system's own are there in any case.
        prefixes = [path.parent for path in directories if path not in SYSTEM_BINS]
        environment = {**self.environment(self.asked), "UV_CACHE_DIR": str(self.asked)}
        environment["PATH"] = ":".join(map(str, directories))
        policy = Policy(
            read=(self.binary, *prefixes),
            write=(self.asked,),
            hide=tuple(path for prefix in prefixes for path in _packages(prefix)),
            environment=tuple(environment.items()),
        )
        command = ["python", "list", "--only-installed", "--offline", "--output-format", "json"]
        completed = await self._run(command, policy, None)
        raise_for(completed)
        found: list[dict[str, Any]] = json.loads(completed.stdout)
        return list(dict.fromkeys(_interpreter(entry) for entry in found if entry["implementation"] == "cpython"))

    async def downloads(self) -> list[tuple[str, str]]:
        """What uv knows to download of CPython for this platform: its own name for each, and the version.

        Raises:
            PackageError: uv failed.
        """
        command = ["python", "list", "--only-downloads", "--all-versions", "--output-format", "json"]
        completed = await self._run(command, self._downloading(self.cache), None)
        raise_for(completed)
        found: list[dict[str, Any]] = json.loads(completed.stdout)
        plain = [one for one in found if one["implementation"] == "cpython" and one["variant"] == "default"]
        return [(str(one["key"]), str(one["version"])) for one in plain]

    async def download(
        self, key: str, target: Path, *, pass_fds: Sequence[int] = (), listener: Listener | None = None
    ) -> Completed:
        """Put the interpreter that uv calls `key`, with its standard library compiled, below the directory `target`.

        A failure is in the answer.
        """
        command = ["python", "install", key, "--no-bin", "--compile-bytecode"]
        return await self._run(command, self._downloading(target), listener, pass_fds=pass_fds)

    def _downloading(self, target: Path) -> Policy:
        environment = {**self.index, **self.environment(None), "UV_PYTHON_INSTALL_DIR": str(target)}
        environment["UV_PYTHON_DOWNLOADS"] = "manual"
        return Policy(
            read=(self.binary, *self.configured_files()),
            write=(self.cache, target),
            network=True,
            environment=tuple(environment.items()),
        )

    @property
    def may_download(self) -> bool:
        """Whether nobody has forbidden to download interpreters, in uv's own words for that."""
        return self.index.get("UV_PYTHON_DOWNLOADS", "") != "never"

    def _project(self, project: Path, interpreter: Interpreter) -> list[str]:
        # From within, so that the path to the wheels is a relative one in the lock: it is the same wherever they stand.
        find_links = ["--find-links", WHEELS] if (project / WHEELS).is_dir() else []
        return ["--directory", str(project), "--python", str(interpreter.python), *find_links]

    def _policy(
        self,
        project: Path,
        interpreter: Interpreter,
        *,
        write: tuple[Path, ...],
        read: tuple[Path, ...] = (),
        target: Path | None = None,
    ) -> Policy:
        environment = {**self.index, **self.environment(project)}
        if target is not None:
            environment["UV_PROJECT_ENVIRONMENT"] = str(target)
        return Policy(
            read=(self.binary, *interpreter.paths, *self.configured_files(), *read),
            write=write,
            hide=interpreter.hidden,
            network=True,
            environment=tuple(environment.items()),
        )

    def configured_files(self) -> tuple[Path, ...]:
        """Files and directories that the index settings name: certificates, indexes on this machine."""
        named = [self.index.get(name, "") for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT")]
        for name in _URLS:
            named += _FILE.findall(self.index.get(name, ""))
        return tuple(path for path in map(Path, filter(None, named)) if path.exists())

    def environment(self, private: Path | None) -> dict[str, str]:
        """Variables of every command beside the index. `private` is a directory that goes when it has ended."""
        return {
            "HOME": str(private or self.cache),
            "TMPDIR": str(private or self.cache),
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "UV_CACHE_DIR": str(self.cache),
            "UV_NO_CONFIG": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_SYSTEM_CERTS": self.index.get("UV_SYSTEM_CERTS") or str(int(any(map(Path.exists, _TRUSTED)))),
        }

    async def _run(
        self, command: Sequence[str], policy: Policy, listener: Listener | None, *, pass_fds: Sequence[int] = ()
    ) -> Completed:
        bounds = Bounds(None, INSTALLS)
        try:
            completed = await run(
                self.confine(policy, [str(self.binary), *command]),
                environment=dict(policy.environment),
                directory=Path("/"),
                on_line=_stages(listener) if listener else None,
                pass_fds=pass_fds,
                watch=bounds.watch,
            )
        except OSError as error:
            raise PackageError(f"uv can't be started: {(error.strerror or str(error)).lower()}") from error
        if bounds.exceeded:
            raise PackageError(f"uv was ended, for it downloads and unpacks more than {bounds.exceeded}")
        return completed


def raise_for(completed: Completed) -> None:
    """Nothing for a command that succeeded.

    Raises:
        PackageError: it failed, with its reason.
    """
    # bubblewrap tells of a signal as a shell does: 128 and its number.
    killed_by = -completed.returncode if completed.returncode < 0 else completed.returncode - 128
    if killed_by > 0:
        raise PackageError(f"uv was killed by signal {killed_by}; nothing was changed, so call again")
    if completed.returncode:
        raise PackageError(reasons.reason(completed.stderr.decode("utf-8", "replace")))


def _stages(listener: Listener) -> Callable[[str], None]:
    """Of uv's lines, those that tell a person where it is."""

    def tell(line: str) -> None:
        if line.split(" ")[0] in _STAGES:
            listener(line[0].lower() + line[1:])

    return tell


def _packages(prefix: Path) -> list[Path]:
    """Where packages of an interpreter of any version lie: in Debian's `dist-packages` too."""
    found = prefix.glob("lib/python3*/*-packages")
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def _interpreter(entry: dict[str, Any]) -> Interpreter:
    python = Path(entry["path"])
    return Interpreter(python.resolve(), str(entry["version"]), python.resolve().parent.parent)
