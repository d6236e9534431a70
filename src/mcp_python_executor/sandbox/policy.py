"""What a process may read, write and reach: a value, and what a base interpreter adds to it."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_SYSTEM = Path("/usr")

# What programs need of the system, where it is: libraries, time zones, fonts, certificates, MIME types, and which cores
# there are.
SYSTEM_DIRECTORIES = ("/bin", "/lib", "/lib32", "/lib64", "/sbin", "/usr")
SYSTEM_FILES = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
    "/sys/devices/system/cpu",
)
NETWORK_FILES = (
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/services",
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What stands inside the outer wall beside the system's own libraries, each at its host path.

    `read` and `write` are files or directories; `hide` are directories below a readable one that appear empty. So are
    `private` ones, but for what else stands below them: nobody else's there is read, nor told by name.
    `environment` is the whole environment of the process: the server's own never reaches it.
    """

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    hide: tuple[Path, ...] = ()
    private: tuple[Path, ...] = ()
    network: bool = False
    environment: tuple[tuple[str, str], ...] = ()


def interpreter_paths(base_prefix: Path, version: str) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """What a program must read of the interpreter at `base_prefix`, and what of that is hidden from it.

    `version` is the interpreter's own (`3.11.7`). A prefix under the home directory (pyenv, conda, uv) shows its
    executable, standard library and shared libraries, and neither its packages nor what else its tool keeps there.
    """
    if base_prefix.is_relative_to(_SYSTEM):
        return (), ()
    minor = "python" + ".".join(version.split(".")[:2])
    read = [base_prefix / "bin" / name for name in ("python", "python3", minor)]
    read.append(base_prefix / "lib")
    packages = base_prefix / "lib" / minor / "site-packages"
    return tuple(path for path in read if path.exists()), (packages,) if packages.is_dir() else ()


def readable(policy: Policy, *, walled: bool, apart: bool = False) -> tuple[list[Path], list[Path]]:
    """What Landlock lets a program read for `policy`, and which directories it may only list; /proc is not among them.

    Where the outer wall stands (`walled`) the system is what that shows, and hidden directories are empty. Devices are
    not read: who opens /dev/ptmx takes one of the machine's terminals (pts(4)). Private ones show all runs of an
    interpreter there, unless each run has mounts of its own (`apart`). Elsewhere Landlock allows beneath and never
    takes away: what lies beside a hidden or private directory is named one by one.
    """
    if walled:
        read, look = [*map(Path, (*SYSTEM_DIRECTORIES, "/etc", "/sys"))], [Path("/dev")]
        hide, private = (), () if apart else policy.private
    else:
        system = SYSTEM_DIRECTORIES + SYSTEM_FILES + (NETWORK_FILES if policy.network else ())
        read, look = [Path(name) for name in system], list[Path]()
        hide, private = policy.hide, policy.private
    for path in policy.read:
        _beside(path, hide, private, read, look)
    return read, look


def writable(policy: Policy) -> list[Path]:
    """What Landlock lets a program write for `policy`: what is only read below one of its places is left out."""
    write = list[Path]()
    for path in policy.write:
        _beside(path, policy.read, (), write, [])
    return write


def _beside(path: Path, hide: tuple[Path, ...], private: tuple[Path, ...], read: list[Path], look: list[Path]) -> None:
    """Who may list a directory may list all below it: none that holds a private one is among `look`."""
    if not _holds(path, (*hide, *private)):
        read.append(path)
    elif path not in (*hide, *private):
        if not _holds(path, private):
            look.append(path)
        with suppress(PermissionError):  # who starts the program may not list it either
            for entry in path.iterdir():
                if not entry.is_symlink():  # a rule would hold for what it leads to
                    _beside(entry, hide, private, read, look)


def _holds(path: Path, places: tuple[Path, ...]) -> bool:
    return any(place.is_relative_to(path) for place in places)
