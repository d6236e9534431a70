"""Tries one thing (read, write, change, ioctl) with the file at a path in every way there is, and says how each went.

Its arguments are the thing and the path. Numbers of system calls are those of x86-64.
"""

import ctypes
import fcntl
import mmap
import os
import runpy
import shutil
import socket
import subprocess
import sys

HERE, EMPTY_PATH, EXCHANGE = -100, 0x1000, 2
libc = ctypes.CDLL(None, use_errno=True)
thing, target = sys.argv[1:]
folder, name = os.path.split(target)
beside = os.path.join(folder, "canary-beside")


def descriptor(flags):
    try:
        return os.open(target, flags)
    except OSError:
        return -1


reader, place = descriptor(os.O_RDONLY | os.O_NONBLOCK), descriptor(os.O_PATH)


def tried(way, attempt):
    try:
        print("tried", way + ":", repr(attempt()))
    except BaseException as error:
        print("tried", way + ":", repr(error))


def call(*arguments):
    result = libc.syscall(*arguments)
    return result if result >= 0 else os.strerror(ctypes.get_errno())


def contents(path, **how):
    with open(os.open(path, os.O_RDONLY, **how), "rb") as file:
        return file.read()


def changed(path, flags=0, **how):
    with open(os.open(path, os.O_WRONLY | flags, 0o666, **how), "wb") as file:
        return file.write(b"changed")


def own_file():
    with open("mine", "w") as file:
        file.write("changed")
    return "mine"


def through_a_link(link, use):
    if os.path.lexists("link"):
        os.unlink("link")
    link("link")
    return use("link")


def link_place(path):
    return call(265, place, b"", HERE, path.encode(), EMPTY_PATH)


def through(paths, use):
    done = []
    for path, number in paths:
        try:
            done.append(use(path, dir_fd=number))
        except OSError:
            pass
    return done


def inherited():
    ways = target, target[1:], "../" * 30 + target[1:]
    return [(way, number) for number in range(256) for way in ways]


def processes():
    pids = ["self", "thread-self", *range(1, 64), os.getppid()]
    ways = "root" + target, "cwd/" + "../" * 30 + target[1:], "task/%s/root" + target
    return [("/proc/%s/%s" % (pid, way.replace("%s", str(pid))), None) for pid in pids for way in ways]


def from_its_folder(use):
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)
        return use(name)
    finally:
        os.fchdir(before)


def mapped():
    with open(target, "rb") as file:
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)[:]


def written_by_map():
    with open(target, "r+b") as file:
        mmap.mmap(file.fileno(), 0)[:1] = b"X"


def output(*command):
    done = subprocess.run(command, capture_output=True)
    return done.stdout + done.stderr


def read():
    tried("open", lambda: contents(target))
    tried("map", mapped)
    tried("open again by descriptor", lambda: contents("/proc/self/fd/%d" % place))
    tried("from the root's place", lambda: contents(target[1:], dir_fd=os.open("/", os.O_PATH)))
    tried("from its folder's place", lambda: contents(name, dir_fd=os.open(folder, os.O_PATH)))
    tried("from its folder", lambda: from_its_folder(contents))
    tried("two dots", lambda: contents(os.getcwd() + "/.." * 30 + target))
    tried("two dots after a link", lambda: contents("/proc/self/cwd/" + "../" * 30 + target[1:]))
    tried("soft link", lambda: through_a_link(lambda path: os.symlink(target, path), contents))
    tried("hard link", lambda: through_a_link(lambda path: os.link(target, path), contents))
    tried("link to a place", lambda: through_a_link(link_place, contents))
    tried("inherited descriptors", lambda: through(inherited(), contents))
    tried("processes", lambda: through(processes(), contents))
    tried("another program", lambda: output("/bin/cat", target))
    tried("an interpreter", lambda: output(sys.executable, target))
    tried("as a program", lambda: runpy.run_path(target))
    tried("a copy", lambda: contents(shutil.copyfile(target, "copy")))
    tried("attributes", lambda: [os.getxattr(target, each) for each in os.listxattr(target)])
    tried("its folder's names", lambda: os.listdir(folder))
    tried("openat2", lambda: os.read(libc.syscall(437, HERE, target.encode(), bytes(24), 24), 99))
    tried("file handle", lambda: call(304, HERE, bytes(32), 0))


def write():
    tried("write", lambda: changed(target))
    tried("append", lambda: changed(target, os.O_APPEND))
    tried("truncate as it opens", lambda: os.close(os.open(target, os.O_RDONLY | os.O_TRUNC)))
    tried("truncate", lambda: os.truncate(target, 0))
    tried("allocate", lambda: os.posix_fallocate(reader, 0, 9999))
    tried("map", written_by_map)
    tried("a reader opened again", lambda: changed("/proc/self/fd/%d" % reader))
    tried("a place opened again", lambda: changed("/proc/self/fd/%d" % place))
    tried("from its folder", lambda: from_its_folder(changed))
    tried("soft link", lambda: through_a_link(lambda path: os.symlink(target, path), changed))
    tried("hard link", lambda: through_a_link(lambda path: os.link(target, path), changed))
    tried("link to a place", lambda: through_a_link(link_place, changed))
    tried("inherited descriptors", lambda: through(inherited(), changed))
    tried("processes", lambda: through(processes(), changed))
    tried("another program", lambda: output("/bin/sh", "-c", 'echo changed > "$0"', target))
    tried("a file beside", lambda: changed(beside, os.O_CREAT))
    tried("a nameless file", lambda: os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600))
    tried("a folder beside", lambda: os.mkdir(beside))
    tried("a soft link beside", lambda: os.symlink("/", beside))
    tried("a hard link beside", lambda: os.link(own_file(), beside))
    tried("a pipe beside", lambda: os.mkfifo(beside))
    tried("a device beside", lambda: os.mknod(beside, 0o20666, os.makedev(1, 3)))
    tried("a socket beside", lambda: socket.socket(socket.AF_UNIX).bind(beside))
    tried("another in its place", lambda: os.replace(own_file(), target))
    tried("exchange", lambda: call(316, HERE, own_file().encode(), HERE, target.encode(), EXCHANGE))
    tried("move here", lambda: os.rename(target, "moved"))
    tried("rename", lambda: os.rename(target, beside))
    tried("rename its folder", lambda: os.rename(folder, folder + "-moved"))
    tried("remove", lambda: os.unlink(target))
    tried("remove its folder", lambda: shutil.rmtree(folder))


def change():
    path, times = target.encode(), (ctypes.c_long * 4)(1, 0, 1, 0)
    own = os.getuid(), os.getgid()
    tried("chmod", lambda: os.chmod(target, 0o777))
    tried("fchmod", lambda: os.fchmod(reader, 0o777))
    tried("fchmod of a place", lambda: os.fchmod(place, 0o777))
    tried("chmod by descriptor", lambda: os.chmod("/proc/self/fd/%d" % place, 0o777))
    tried("fchmodat", lambda: os.chmod(name, 0o777, dir_fd=os.open(folder, os.O_PATH)))
    tried("fchmodat2", lambda: call(452, HERE, path, 0o777, 0))
    tried("fchmodat2 of a place", lambda: call(452, place, b"", 0o777, EMPTY_PATH))
    tried("chmod of its folder", lambda: os.chmod(folder, 0o777))
    tried("chown", lambda: os.chown(target, *own))
    tried("chown to another", lambda: os.chown(target, 12345, 12345))
    tried("lchown", lambda: os.lchown(target, *own))
    tried("fchown", lambda: os.fchown(reader, *own))
    tried("fchownat of a place", lambda: call(260, place, b"", *own, EMPTY_PATH))
    tried("utime", lambda: os.utime(target, (1, 1)))
    tried("futimens", lambda: os.utime(reader, (1, 1)))
    tried("utimensat of a place", lambda: call(280, place, b"", times, EMPTY_PATH))
    tried("old utime", lambda: call(132, path, times))
    tried("utimes", lambda: call(235, path, times))
    tried("futimesat", lambda: call(261, HERE, path, times))
    tried("times of its folder", lambda: os.utime(folder, (1, 1)))
    tried("setxattr", lambda: os.setxattr(target, "user.canary", b"1"))
    tried("lsetxattr", lambda: os.setxattr(target, "user.canary", b"1", follow_symlinks=False))
    tried("fsetxattr", lambda: os.setxattr(reader, "user.canary", b"1"))
    tried("setxattrat", lambda: call(463, HERE, path, 0, b"user.canary", bytes(16), 16))
    tried("setxattr of its folder", lambda: os.setxattr(folder, "user.canary", b"1"))
    tried("file_setattr", lambda: call(469, HERE, path, b"\x40" + bytes(23), 24, 0))


def ioctl():
    # FS_IOC_SETFLAGS in both sizes, FS_IOC_SETVERSION in both, FS_IOC_FSSETXATTR, EXT4_IOC_SETVERSION_OLD,
    # EXT4_IOC_MIGRATE, FS_IOC_ENABLE_VERITY, FS_IOC_SET_ENCRYPTION_POLICY, FAT_IOCTL_SET_ATTRIBUTES,
    # BTRFS_IOC_SUBVOL_SETFLAGS
    for request in (
        *(0x40086602, 0x40046602, 0x40087602, 0x40047602, 0x401C5820, 0x40086604),
        *(0x6609, 0x40806685, 0x800C6613, 0x40047211, 0x4008941A),
    ):
        tried("ioctl %x" % request, lambda: fcntl.ioctl(reader, request, b"\x40" + bytes(127)))


{"read": read, "write": write, "change": change, "ioctl": ioctl}[thing]()
print("attack-ran-to-its-end")
