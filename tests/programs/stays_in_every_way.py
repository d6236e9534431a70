"""Leaves processes in every way there is to outlive a program, and says where when all of them are up.

Each makes a file of its own in OUTPUT_PATH, named after its way, and lets it grow for as long as it lives. How the
program itself ends is for whoever adds a line below.
"""

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
ways = {}


def way(function):
    ways[function.__name__] = function
    return function


def note(name):
    with open(f"{os.environ['OUTPUT_PATH']}/{name}", "a") as file:
        file.write("x")


def beat(name):
    while True:
        note(name)
        time.sleep(0.02)


def in_child(work, *arguments):
    if os.fork() == 0:
        try:
            work(*arguments)
        finally:
            os._exit(0)


@way
def child(name):
    in_child(beat, name)


@way
def daemon_thread(name):
    threading.Thread(target=beat, args=(name,), daemon=True).start()


@way
def orphan_in_a_session(name):
    def leave():
        os.setsid()
        in_child(beat, name)

    in_child(leave)


@way
def group_of_its_own(name):
    def leave():
        os.setpgid(0, 0)
        beat(name)

    in_child(leave)


@way
def deaf(name):
    def ignore_all():
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        beat(name)

    in_child(ignore_all)


@way
def stopped(name):
    def stop():
        note(name)
        os.kill(os.getpid(), signal.SIGSTOP)

    in_child(stop)


@way
def child_of_one_that_is_stopped(name):
    def stop():
        in_child(beat, name)
        os.kill(os.getpid(), signal.SIGSTOP)

    in_child(stop)


@way
def always_another_process(name):
    def hand_on():
        while True:
            note(name)
            time.sleep(0.02)
            if os.fork():
                os._exit(0)

    in_child(hand_on)


@way
def begun_anew_when_it_ends(name):
    def watch():
        while True:
            in_child(beat, name)
            os.wait()

    in_child(watch)


@way
def under_another_name(name):
    code = f"import os, time\nwhile True: open({os.environ['OUTPUT_PATH'] + '/' + name!r}, 'a').write('x')"
    in_child(os.execve, sys.executable, ["kworker/0:1", "-S", "-c", f"{code}; time.sleep(0.02)"], {})


@way
def with_nothing_open(name):
    def close():
        os.closerange(0, 4096)
        beat(name)

    in_child(close)


@way
def somewhere_else(name):
    def leave():
        os.chdir("/")
        beat(name)

    in_child(leave)


@way
def in_place_of_its_parent(name):
    def hold_up():
        libc.syscall(58)  # vfork: the parent sleeps for as long as its child lives
        beat(name)

    in_child(hold_up)


@way
def ends_without_a_signal(name):
    def part():
        if libc.syscall(56, 0, 0, 0, 0, 0) == 0:  # clone; only __WCLONE waits for such a child
            beat(name)

    in_child(part)


@way
def orphan_adopted_by_another(name):
    def adopt():
        libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
        in_child(in_child, beat, name)
        while True:
            signal.pause()

    in_child(adopt)


@way
def thread_of_one_that_has_ended(name):
    def end():
        threading.Thread(target=beat, args=(name,)).start()
        libc.syscall(60, 0)  # exit, of this thread alone

    in_child(end)


@way
def slow_to_die(name):
    def step_back():
        os.nice(19)
        for policy in (os.SCHED_BATCH, os.SCHED_IDLE):
            try:
                os.sched_setscheduler(0, policy, os.sched_param(0))
            except OSError:
                pass
        beat(name)

    in_child(step_back)


@way
def shell(name):
    loop = 'while :; do echo x >> "$OUTPUT_PATH/$0"; sleep 0.02; done'
    subprocess.Popen(["/bin/sh", "-c", loop, name], start_new_session=True, close_fds=False)


def wait_for(names):
    while set(os.listdir(os.environ["OUTPUT_PATH"])) < names:
        time.sleep(0.001)


@atexit.register
def leave_one_more():
    in_child(beat, "born_at_the_end")
    wait_for(ways.keys() | {"born_at_the_end"})


for name, start in ways.items():
    start(name)
wait_for(ways.keys())
print("up", os.getcwd(), flush=True)
