"""A policy as a bubblewrap command line: see bwrap(1).

bubblewrap itself must be started with the policy's environment and nothing else: it passes on its own, and its first
process shows it in /proc; options would show it to every user of the machine. It must be started from the main thread,
for `--die-with-parent` follows the thread that started it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mcp_python_executor.sandbox.policy import NETWORK_FILES, SYSTEM_DIRECTORIES, SYSTEM_FILES, Policy
from mcp_python_executor.sandbox.unprivileged import launcher, staged

# Every program sees this user: an id without capabilities, the same as root or as an ordinary user outside.
_USER = ("--uid", "1000", "--gid", "1000")


def command(
    program: Path, policy: Policy, argv: Sequence[str], *, directory: Path | None = None, unprivileged: bool = False
) -> list[str]:
    """`argv` behind the outer wall that `policy` describes, by the bubblewrap at `program`.

    `directory` is where it starts; it must stand inside. The caller starts it with `policy.environment` alone. A caller
    who is root can have bubblewrap run as an `unprivileged` user, see `unprivileged.py`.
    """
    named = (*policy.read, *policy.write)
    before = launcher(named) if unprivileged else []
    sources = staged(named) if unprivileged else {}
    namespaces = ["--unshare-all", "--unshare-user", *(["--share-net"] if policy.network else [])]
    return [
        *before,
        str(program),
        *namespaces,
        *_USER,
        "--hostname",
        "sandbox",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        *_system(policy.network),
        *_places(policy, sources),
        *(("--chdir", str(directory)) if directory else ("--chdir", "/")),
        "--",
        *argv,
    ]


def _system(network: bool) -> Iterator[str]:
    for name in SYSTEM_DIRECTORIES:
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), name)
        elif path.is_dir():
            yield from ("--ro-bind", name, name)
    for name in SYSTEM_FILES + (NETWORK_FILES if network else ()):
        yield from ("--ro-bind-try", name, name)
    yield from ("--proc", "/proc", "--dev", "/dev")
    for name in ("/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 - inside
        yield from ("--tmpfs", name)


def _places(policy: Policy, sources: Mapping[Path, str]) -> Iterator[str]:
    """Binds from the root downwards, so that a place below another one is not covered by it."""
    binds = [(path, "--ro-bind") for path in policy.read] + [(path, "--bind") for path in policy.write]
    empty = (*policy.hide, *policy.private)
    binds += [(path, "--tmpfs") for path in empty]
    for path, option in sorted(binds, key=lambda bind: len(bind[0].parts)):
        yield from (option, str(path)) if option == "--tmpfs" else (option, sources.get(path, str(path)), str(path))
    for path in (*empty, Path("/")):  # once every place below is there
        yield from ("--remount-ro", str(path))
