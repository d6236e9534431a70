"""A virtual machine with a kernel of its own, in which the files of this machine can be read and changed for itself.

For what can't be tried here: its cgroups are of version 2 and all its own. It is emulated, some ten times slower than
the machine. Needs Debian's packages qemu-system-x86, linux-image-amd64 and busybox-static.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

_QEMU = "qemu-system-x86_64"
_BUSYBOX = Path("/bin/busybox")
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
# In it, an ordinary user to whom one cgroup belongs.
_USER = 1000

_INIT = """#!/bin/busybox sh
set -e
/bin/busybox mkdir /proc /old /own /new
for module in {modules}; do /bin/busybox insmod /$module; done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /old
/bin/busybox mount -t tmpfs own /own
/bin/busybox mkdir /own/upper /own/work
/bin/busybox mount -t overlay -o lowerdir=/old,upperdir=/own/upper,workdir=/own/work new /new
/bin/busybox cp /main /new/main
exec /bin/busybox switch_root /new /bin/sh /main
"""

_MAIN = """
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp/home LANG=C.UTF-8
export HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir -p /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=1777 tmp /tmp
ip link set lo up
{setup}
chmod o+rx {directories}
chown {user} {directory}
mkdir /sys/fs/cgroup/delegated
echo +memory +pids > /sys/fs/cgroup/cgroup.subtree_control
chown -R {user} /sys/fs/cgroup/delegated
cd {directory}
become="setpriv --reuid {user} --regid {user} --clear-groups"
$become mkdir /tmp/home
sh -c 'echo $$ > /sys/fs/cgroup/delegated/cgroup.procs; exec "$@"' sh $become {command} < /dev/null
echo "status $?"
exec busybox poweroff -f
"""


def missing() -> str:
    """What the machine lacks for it; empty when that is nothing."""
    lacking = [] if shutil.which(_QEMU) else ["qemu-system-x86"]
    lacking += [] if _kernels() else ["linux-image-amd64"]
    lacking += [] if _BUSYBOX.exists() else ["busybox-static"]
    return ", ".join(lacking)


def run(
    command: Sequence[str], work: Path, *, reads: Sequence[Path], seconds: float, setup: str = ""
) -> tuple[int, str]:
    """Runs `command` there in the present directory, alone in a delegated cgroup, once its root has run `setup`.

    Gives its status (-1: none) and what it printed. `work` holds what the machine starts with and prints; it ends after
    `seconds`. `reads` are directories that the command's user must be able to reach.
    """
    kernel = _kernels()[-1]
    initial, console = work / "initial", work / "console"
    initial.write_bytes(b"".join(_archive(kernel.name.removeprefix("vmlinuz-"), command, reads, setup)))
    machine = ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536", "-nodefaults", "-no-reboot"]
    machine += ["-display", "none", "-serial", f"file:{console}", "-kernel", str(kernel), "-initrd", str(initial)]
    machine += ["-append", "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off"]
    machine += ["-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run([_QEMU, *machine], stdin=subprocess.DEVNULL, timeout=seconds, check=True)
    printed = console.read_text(errors="replace").replace("\r", "")
    told = re.search(r"^status (\d+)$", printed, re.MULTILINE)
    return int(told[1]) if told else -1, printed


def _kernels() -> list[Path]:
    """Not the cloud's kernels, which lack 9p."""
    return sorted(Path("/boot").glob("vmlinuz-*[0-9]-amd64"))


def _archive(release: str, command: Sequence[str], reads: Sequence[Path], setup: str) -> Iterator[bytes]:
    """The initial file system in cpio's new format: see the kernel's driver-api/early-userspace/buffer-format."""
    modules = _needed_modules(Path("/lib/modules", release))
    directories = {path for read in (Path.cwd(), *reads) for path in (read, *read.parents)}
    main = _MAIN.format(
        user=_USER,
        directory=shlex.quote(str(Path.cwd())),
        directories=shlex.join(map(str, sorted(directories))),
        command=shlex.join(command),
        setup=setup,
    )
    yield _entry("bin", b"", 0o40755)
    yield _entry("bin/busybox", _BUSYBOX.read_bytes(), 0o100755)
    for module in modules:
        yield _entry(module.name, module.read_bytes(), 0o100644)
    yield _entry("init", _INIT.format(modules=" ".join(module.name for module in modules)).encode(), 0o100755)
    yield _entry("main", main.encode(), 0o100755)
    yield _entry("TRAILER!!!", b"", 0)


def _entry(name: str, data: bytes, mode: int) -> bytes:
    path = os.fsencode(name) + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def _needed_modules(directory: Path) -> list[Path]:
    """The modules in an order in which they can be loaded: see modules.dep(5)."""
    needs = dict(line.split(":") for line in (directory / "modules.dep").read_text().splitlines())
    order: list[str] = []
    for name in _MODULES:
        module = next((path for path in needs if Path(path).name.split(".")[0] == name), None)
        if module is not None:  # else it is part of the kernel
            order += [path for path in (*reversed(needs[module].split()), module) if path not in order]
    return [directory / path for path in order]
