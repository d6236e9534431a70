import os
import platform
import select
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcp_python_executor.sandbox import bubblewrap
from mcp_python_executor.sandbox.policy import Policy, interpreter_paths
from mcp_python_executor.sandbox.unprivileged import HOST_ID, launcher, staged

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root: only root starts bubblewrap as another user")

BWRAP = Path("/usr/bin/bwrap")
_SECONDS = 30
_ORDINARY = 1000
# A file system whose ids can't be mapped.
_NOT_TO_BE_MAPPED = Path("/proc/sys")


def behind(policy: Policy, *argv: str, unprivileged: bool = True) -> list[str]:
    return bubblewrap.command(BWRAP, policy, argv, unprivileged=unprivileged)


def told(command: Sequence[str], environment: Mapping[bytes, bytes] | None = None) -> str:
    """What `command` printed; it must succeed."""
    nothing = subprocess.DEVNULL
    done = subprocess.run(command, env=environment or {}, stdin=nothing, capture_output=True, timeout=_SECONDS)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(errors="surrogateescape")


def shell(script: str, *, read: Sequence[Path] = (), write: Sequence[Path] = ()) -> str:
    """What a shell printed that could read and write these places."""
    return told(behind(Policy(read=tuple(read), write=tuple(write)), "/bin/sh", "-ec", script))


def python(code: str, *arguments: str) -> list[str]:
    """This interpreter, wherever it lies, with `code`."""
    read, hide = interpreter_paths(Path(sys.base_prefix), platform.python_version())
    return behind(Policy(read=read, hide=hide), f"{sys.base_prefix}/bin/python3", "-c", code, *arguments)


@contextmanager
def running(command: Sequence[str]) -> Generator[subprocess.Popen[bytes]]:
    """A shell that has said `ready` and waits for its standard input to end."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env={}, stdin=pipe, stdout=pipe, extra_groups=[_ORDINARY]) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], _SECONDS)[0]
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.communicate(timeout=_SECONDS)


def waiting(policy: Policy, then: str = "true") -> list[str]:
    """A shell for `running`, and what it does at last."""
    return behind(policy, "/bin/sh", "-ec", f"echo ready; read line || {then}")


def fields_of(status: str) -> dict[str, list[str]]:
    """A process's status, see proc_pid_status(5)."""
    return {name: value.split() for name, _, value in (line.partition(":") for line in status.splitlines())}


def capabilities(status: Mapping[str, Sequence[str]]) -> set[int]:
    return {int(status[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory that only root can enter, as is the one above it."""
    above = tmp_path / "above"
    above.mkdir(mode=0o700)
    (above / "place").mkdir(mode=0o700)
    return above / "place"


def test_the_process_that_was_started_becomes_bubblewrap_as_a_user_without_privilege():
    with running(waiting(Policy())) as process:
        status = fields_of(Path(f"/proc/{process.pid}/status").read_text())
    assert status["Name"] == ["bwrap"]
    assert status["Uid"] == status["Gid"] == [str(HOST_ID)] * 4
    assert status["Groups"] == []
    assert capabilities(status) == {0}


def test_no_capability_is_left_not_even_to_inherit():
    before = ["setpriv", "--inh-caps", "+chown,+sys_admin"]
    assert capabilities(fields_of(told([*before, *launcher([]), "/bin/cat", "/proc/self/status"]))) == {0}


def test_what_only_root_may_read_is_read(place: Path):
    file = place / "file"
    file.write_text("canary")
    file.chmod(0o600)
    assert shell(f"cat {file}", read=[place]) == "canary"


def test_a_file_is_a_place_as_a_directory_is(place: Path):
    secret, result, beside = place / "secret", place / "result", place / "beside"
    for file in (secret, result, beside):
        file.write_text("canary")
        file.chmod(0o600)
    assert shell(f"cat {secret}; echo changed > {result}; ls {place}", read=[secret], write=[result]) == (
        "canaryresult\nsecret\n"
    )
    assert result.read_text() == "changed\n"


def test_a_readable_place_is_not_writable(place: Path):
    assert shell(f"touch {place}/file 2> /dev/null || echo refused", read=[place]) == "refused\n"


def test_what_is_written_is_roots(place: Path):
    shell(f"mkdir {place}/directory; echo text > {place}/directory/file", write=[place])
    for path in (place / "directory", place / "directory" / "file"):
        assert (path.stat().st_uid, path.stat().st_gid) == (0, 0)


def test_a_directory_that_root_makes_later_is_there_and_writable(place: Path):
    with running(waiting(Policy(write=(place,)), f"echo text > {place}/later/file")) as process:
        (place / "later").mkdir(mode=0o700)
    assert process.returncode == 0
    assert (place / "later" / "file").read_text() == "text\n"


def test_what_root_owns_appears_as_the_users_and_nothing_else_does(place: Path):
    owners = {"roots": 0, "ordinary": _ORDINARY, "last": HOST_ID - 1, "next": HOST_ID + 1}
    for name, owner in owners.items():
        (place / name).touch()
        os.chown(place / name, owner, owner)
    where = staged([place])[place]
    shown = told([*launcher([place]), "/usr/bin/stat", "-c", "%u %g", *(f"{where}/{name}" for name in owners)])
    assert shown.splitlines() == [f"{owner} {owner}" for owner in [HOST_ID, *list(owners.values())[1:]]]


def test_what_others_own_is_theirs_and_open_to_all_as_far_as_they_let_it(place: Path):
    place.chmod(0o777)
    for name, mode in (("open", 0o644), ("closed", 0o600)):
        (place / name).write_text(name)
        (place / name).chmod(mode)
        os.chown(place / name, _ORDINARY, _ORDINARY)
    os.chown(place, _ORDINARY, _ORDINARY)
    assert shell(f"cat {place}/open; cat {place}/closed 2> /dev/null || touch {place}/new", write=[place]) == "open"
    assert (place / "new").stat().st_uid == 0


def test_the_system_shows_what_every_user_may_read():
    assert shell("test -r /etc/ld.so.cache && test ! -w /etc/ld.so.cache && echo readable") == "readable\n"


def test_no_part_of_proc_is_covered():
    covered = "grep -c ' /proc/' /proc/self/mountinfo || true"
    assert shell(covered) == "0\n"


def test_a_limit_of_processes_binds():
    bomb = """
import os, resource
resource.setrlimit(resource.RLIMIT_NPROC, (10, 10))
for _ in range(20):
    try:
        if os.fork() == 0:
            os.read(0, 1)
            os._exit(0)
    except BlockingIOError:
        print("refused")
        break
"""
    assert told(python(bomb)) == "refused\n"


@pytest.mark.parametrize(
    "environment", [{}, {b"LANG": b"C", b"NAME": b"\xff=value"}, {b"LC_CTYPE": b"C.UTF-8"}], ids=["none", "C", "UTF-8"]
)
def test_the_environment_is_what_it_is_without(environment: dict[bytes, bytes]):
    expected = told(behind(Policy(), "/usr/bin/env", unprivileged=False), environment)
    assert told(behind(Policy(), "/usr/bin/env"), environment) == expected


def test_no_signal_is_ignored_that_is_not_without():
    ignored = ("/bin/grep", "SigIgn", "/proc/self/status")
    assert told(behind(Policy(), *ignored)) == told(behind(Policy(), *ignored, unprivileged=False))


def test_descriptors_are_passed_on_and_no_others():
    read, write = os.pipe()
    listing = python(
        "import os, sys; os.write(int(sys.argv[1]), repr(os.listdir('/proc/self/fd')).encode())", str(write)
    )
    with open(read) as file:
        subprocess.run(listing, env={}, stdin=subprocess.DEVNULL, pass_fds=[write], timeout=_SECONDS, check=True)
        os.close(write)
        # The last one is the directory's.
        assert file.read() == repr(["0", "1", "2", "3", str(write)])


def test_it_ends_with_the_process_that_started_it():
    start = "import subprocess, sys; subprocess.run(sys.argv[1:], env={})"
    command = [sys.executable, "-c", start, *behind(Policy(), "/bin/sh", "-c", "echo ready; exec sleep 1000")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert select.select([parent.stdout], [], [], _SECONDS)[0]
        assert parent.stdout.readline() == b"ready\n"
        parent.kill()
        parent.communicate(timeout=_SECONDS)  # until every process that could write to it is gone


def test_nothing_of_it_shows_among_the_hosts_mounts(place: Path):
    mounts = Path("/proc/self/mountinfo")
    before = mounts.read_text()
    with running(waiting(Policy(write=(place,)))):
        assert mounts.read_text() == before


def test_a_place_that_is_not_there_is_told(place: Path):
    done = subprocess.run(behind(Policy(read=(place / "gone",)), "/bin/true"), env={}, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.decode() == (f"unprivileged start: [Errno 2] {place / 'gone'}: No such file or directory\n")


def test_a_trial_tells_whether_places_can_be_mapped(place: Path):
    for places, possible in (([], True), ([place], True), ([place, _NOT_TO_BE_MAPPED], False)):
        assert (subprocess.run(launcher(places), env={}, timeout=_SECONDS, check=False).returncode == 0) is possible


def test_a_place_that_can_not_be_mapped_is_seen_as_any_stranger_sees_it(place: Path):
    (place / "file").write_text("canary")
    (place / "file").chmod(0o600)
    script = f"cat {place}/file; echo text > {place}/new; stat -c ' %u' {_NOT_TO_BE_MAPPED}"
    told = shell(script, read=[_NOT_TO_BE_MAPPED], write=[place])
    assert told.split() == ["canary", "65534"]  # nobody's that it knows
    assert (place / "new").stat().st_uid == 0


def test_a_mount_below_a_place_that_can_not_be_mapped_does_not_keep_the_place_from_it(place: Path):
    (place / "file").write_text("canary")
    (place / "file").chmod(0o600)
    (place / "below").mkdir()
    command = behind(Policy(write=(place,)), "/bin/sh", "-ec", f"cat {place}/file; head -n 1 {place}/below/self/status")
    mount = f'mount -t proc proc {place}/below && exec "$@"'
    before = ["unshare", "--mount", "/bin/sh", "-c", mount, "sh"]
    assert told([*before, *launcher([place])]) == ""
    assert told([*before, *command]).startswith("canaryName:")
