"""Which walls this machine offers, each found out by trying it."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from mcp_python_executor.sandbox import bubblewrap
from mcp_python_executor.sandbox.policy import Policy, interpreter_paths
from mcp_python_executor.sandbox.unprivileged import launcher

INSIDE = Path(__file__).parent.parent / "inside"
_SECONDS = 10
_TRIES = "bubblewrap", "namespaces", "mounts", "landlock", "scopes", "processes", "seccomp"
# Those that bubblewrap gives every command.
_NAMESPACES = "ipc", "mnt", "net", "pid", "user", "uts"
_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
# As Ubuntu packages it; see apparmor_parser(8).
_APPARMOR_PROFILE = (
    "apt-get install apparmor-profiles, copy /usr/share/apparmor/extra-profiles/bwrap-userns-restrict to "
    "/etc/apparmor.d and run apparmor_parser -r on it"
)
_ALLOW_NAMESPACES = (
    "allow unprivileged user namespaces (sysctl user.max_user_namespaces, or the container's seccomp profile)"
)
_INSTALL = {
    "alpine": "apk add bubblewrap",
    "arch": "pacman -S bubblewrap",
    "debian": "apt-get install bubblewrap",
    "fedora": "dnf install bubblewrap",
    "rhel": "dnf install bubblewrap",
    "suse": "zypper install bubblewrap",
    "ubuntu": "apt-get install bubblewrap",
}


@dataclass(frozen=True, slots=True)
class Wall:
    """One wall: whether it stands here, how that shows (`bubblewrap 0.8.0`), and how to get it where it does not."""

    name: str
    stands: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Confinement:
    """The walls that runs are put behind; with none of them a run is a plain process.

    `bubblewrap` is its program, which root has run as an `unprivileged` user. Without `namespaces` of its own a run is
    ended by a supervisor, has no /tmp but a directory of its own, and the calls that mounts would keep from the host's
    files do nothing.
    """

    bubblewrap: Path | None = None
    namespaces: bool = False
    landlock: bool = False
    seccomp: bool = False
    unprivileged: bool = False

    @property
    def strict(self) -> bool:
        """Whether there is any wall at all: `choose_confinement` gives all that `strict` needs, or none."""
        return self != Confinement()

    @property
    def names(self) -> list[str]:
        """The walls by name, from the outermost."""
        return [name for name in ("bubblewrap", "namespaces", "landlock", "seccomp") if getattr(self, name)]


def choose_confinement(
    bubblewrap: Path | None,
    *,
    namespaces: bool,
    landlock: bool,
    scopes: bool,
    seccomp: bool,
    processes: bool = True,
    unprivileged: bool = False,
) -> Confinement | None:
    """How ISOLATION=strict is met with these walls; None where it is not.

    | bubblewrap | nested namespaces | Landlock | a run is kept from the host and others by | and ended by |
    | --- | --- | --- | --- | --- |
    | works | yes | ABI 1 | mounts, namespaces, Landlock, seccomp | its PID namespace |
    | works | no (AppArmor) | ABI 6 | bubblewrap's mounts, Landlock, seccomp | its supervisor |
    | no | not used | ABI 6 | Landlock, seccomp | its supervisor |

    Where runs share a PID namespace Landlock has to keep them from each other's signals and sockets (`scopes`), as it
    does since ABI 6. `processes` tells whether the kernel
    bounds how many a run has: for root it does where bubblewrap is started `unprivileged`, so the last row is not for
    root.
    """
    if not seccomp or not processes or not landlock:
        return None
    if bubblewrap is not None and namespaces:
        return Confinement(bubblewrap, namespaces=True, landlock=True, seccomp=True, unprivileged=unprivileged)
    if scopes:
        return Confinement(bubblewrap, landlock=True, seccomp=True, unprivileged=unprivileged)
    return None


@dataclass(frozen=True, slots=True)
class Walls:
    """The walls of this machine. `bubblewrap` is the program where it works, `landlock_abi` is 0 without Landlock.

    `scopes` tells that Landlock keeps signals and abstract sockets in, `unprivileged` that root has bubblewrap run as a
    user of its own.
    """

    walls: tuple[Wall, ...]
    bubblewrap: Path | None
    landlock_abi: int
    scopes: bool = False
    unprivileged: bool = False

    @property
    def confinement(self) -> Confinement | None:
        """What ISOLATION=strict puts runs behind here; None where it can't be met."""
        stands = {wall.name for wall in self.walls if wall.stands}
        return choose_confinement(
            self.bubblewrap,
            namespaces={"namespaces", "mounts"} <= stands,
            landlock="landlock" in stands,
            scopes=self.scopes,
            seccomp="seccomp" in stands,
            processes="processes" in stands,
            unprivileged=self.unprivileged,
        )

    @property
    def strict(self) -> bool:
        """Whether ISOLATION=strict can be met here."""
        return self.confinement is not None

    @property
    def missing(self) -> str:
        """One line: which walls are missing and how to get them; empty when none is."""
        return "; ".join(f"{wall.name}: {wall.detail}; {wall.remedy}" for wall in self.walls if not wall.stands)


def bootstrap(module: str) -> list[str]:
    """Arguments after an interpreter that run `inside.MODULE.main` there, before anything of its environment runs."""
    return ["-S", "-c", f"import sys; sys.path[0] = {str(INSIDE.parent)!r}; import inside.{module} as m; m.main()"]


async def probe(*places: Path) -> Walls:
    """Tries every wall that `strict` asks for, each as a run uses it. Takes about three interpreter starts.

    `places` are where environments and runs are kept: as root, ids have to be mapped there.
    """
    if sys.platform != "linux":
        return Walls((Wall("system", False, sys.platform, "walls stand on Linux and in WSL 2 only"),), None, 0)
    program = shutil.which("bwrap")
    outer = _missing_bubblewrap() if program is None else await _try_bubblewrap(program)
    root = os.geteuid() == 0
    unprivileged = root and outer.stands and await _can_be_unprivileged(places)
    inside = await _try_inside(program if outer.stands else None, unprivileged=unprivileged)
    if outer.stands and inside["bubblewrap"]:
        outer = Wall("bubblewrap", False, f"{outer.detail} is no wall: {inside['bubblewrap']}", _bubblewrap_remedy())
        unprivileged = False
        inside = await _try_inside(None, unprivileged=False)
    walls = (
        outer,
        _wall("namespaces", inside, "a PID namespace for each run, its mounts locked", _namespaces_remedy()),
        _wall("mounts", inside, "a private /tmp and /proc for each run", _namespaces_remedy()),
        _wall("landlock", inside, _landlock(inside), "use Linux 5.13 or newer with landlock among its LSMs"),
        _wall("seccomp", inside, f"a filter for {platform.machine()}", "use x86-64 or arm64 with seccomp enabled"),
        _bound_on_processes(inside, root=root, unprivileged=unprivileged),
    )
    return Walls(
        walls,
        Path(program) if program and outer.stands else None,
        landlock_abi=int(inside["abi"]),
        scopes=not inside["scopes"],
        unprivileged=unprivileged,
    )


def _wall(name: str, found: Mapping[str, Any], detail: str, remedy: str) -> Wall:
    failure = str(found[name])
    return Wall(name, not failure, failure or detail, remedy if failure else "")


def _landlock(found: Mapping[str, Any]) -> str:
    """Its ABI, and what it leaves to the namespaces of runs."""
    return f"ABI {found['abi']}" + (
        f", and only with namespaces of a run's own: {found['scopes']}" * bool(found["scopes"])
    )


def _missing_bubblewrap() -> Wall:
    return Wall("bubblewrap", False, "not installed", f"install it: {_install_command()}")


def _install_command() -> str:
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    for name in (system.get("ID", ""), *system.get("ID_LIKE", "").split()):
        if name in _INSTALL:
            return _INSTALL[name]
    return "your distribution's package bubblewrap"


def _bubblewrap_remedy() -> str:
    if _apparmor_restricts():
        return f"AppArmor restricts user namespaces; let bubblewrap have them: {_APPARMOR_PROFILE}"
    return _ALLOW_NAMESPACES


def _namespaces_remedy() -> str:
    if _apparmor_restricts():
        return (
            "AppArmor denies capabilities to what bubblewrap starts: "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0 lifts that, for every program of the machine"
        )
    return _ALLOW_NAMESPACES


def _apparmor_restricts() -> bool:
    return _APPARMOR.is_file() and _APPARMOR.read_text().strip() == "1"


async def _try_bubblewrap(program: str) -> Wall:
    told = await _output([program, "--version"])
    command = bubblewrap.command(Path(program), Policy(), ["/bin/true"])
    try:
        with anyio.fail_after(_SECONDS):
            tried = await anyio.run_process(command, check=False, env={}, stdin=subprocess.DEVNULL)
    except (OSError, TimeoutError) as error:
        return Wall("bubblewrap", False, f"{told} does not start: {error}", _bubblewrap_remedy())
    if tried.returncode != 0:
        reason = tried.stderr.decode(errors="replace").strip().partition("\n")[0]
        return Wall("bubblewrap", False, f"{told} fails: {reason}", _bubblewrap_remedy())
    return Wall("bubblewrap", True, told)


async def _output(command: list[str]) -> str:
    try:
        with anyio.fail_after(_SECONDS):
            done = await anyio.run_process(command, check=False, env={}, stdin=subprocess.DEVNULL)
    except (OSError, TimeoutError) as error:
        return f"({error})"
    return done.stdout.decode(errors="replace").strip()


def _bound_on_processes(found: Mapping[str, Any], *, root: bool, unprivileged: bool) -> Wall:
    """RLIMIT_NPROC does not bind root (see getrlimit(2)): a run that forks without end would take the machine down."""
    if root and not unprivileged:
        remedy = "start the server as an ordinary user, or with bubblewrap where mounts can map ids (not overlayfs)"
        return Wall("processes", False, "the kernel does not count root's", remedy)
    detail = "counted by the kernel" + (", as another user's than root" if root else "")
    return _wall("processes", found, detail, "use a kernel that holds RLIMIT_NPROC")


async def _can_be_unprivileged(places: Sequence[Path]) -> bool:
    _, policy = _interpreter()
    try:
        with anyio.fail_after(_SECONDS):
            command = launcher((*policy.read, *map(_that_exists, places)))
            tried = await anyio.run_process(command, check=False, env={}, stdin=subprocess.DEVNULL)
    except (OSError, TimeoutError):
        return False
    return tried.returncode == 0


def _that_exists(place: Path) -> Path:
    """`place`, or what it will be made in."""
    return next(path for path in (place, *place.parents) if path.exists())


def _interpreter() -> tuple[Path, Policy]:
    python = Path(sys._base_executable)  # type: ignore[attr-defined]  # noqa: SLF001 - no public name; venv uses it too
    read, hide = interpreter_paths(Path(sys.base_prefix), platform.python_version())
    return python, Policy(read=(INSIDE, python, *read), hide=hide)


async def _try_inside(program: str | None, *, unprivileged: bool) -> dict[str, Any]:
    """What `inside/probe.py` finds, behind bubblewrap where that works: a text for each wall, empty where it stands."""
    python, policy = _interpreter()
    command, told = [str(python), *bootstrap("probe")], ""
    try:
        with tempfile.NamedTemporaryFile() as canary:
            if program:
                refused = {"canary": canary.name, "outside": {kind: _own_namespace(kind) for kind in _NAMESPACES}}
                command = [*command, json.dumps(refused)]
                command = bubblewrap.command(Path(program), policy, command, unprivileged=unprivileged)
            told = await _output(command)
        return json.loads(told)
    except OSError as error:
        failure = f"no file could be made to try it with: {error}"
    except ValueError:
        failure = f"the probe said {told!r}"
    return {**dict.fromkeys(_TRIES, failure), "abi": 0}


def _own_namespace(kind: str) -> str:
    """A name that no other namespace has: see namespaces(7)."""
    return str(Path(f"/proc/self/ns/{kind}").readlink())
