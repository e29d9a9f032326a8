"""What the launcher's options keep a command from: each tried with the option, and without it to see it succeed."""

import ast
import errno
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.node.launching import Launch
from tidemill.node.isolation.confinement import Confinement, Files
from tidemill.node.launcher import LAUNCHER

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root may become somebody else and mount")
# enough of a machine to run a shell
SYSTEM = Files(read=tuple(Path(name) for name in ("/usr", "/bin", "/lib", "/lib64", "/proc", "/dev", sys.base_prefix)))


def as_user(uid: int, **asked: Any) -> list[str]:
    """Options to run as ``uid``, which cannot enter the folders of the tests."""
    return [*Confinement(uid=uid, **asked).options(), "--directory=/"]


def confined_to(*, read: tuple[Path, ...] = (), write: tuple[Path, ...] = ()) -> list[str]:
    return list(Confinement(files=Files(read=(*SYSTEM.read, *read), write=(Path("/dev/null"), *write))).options())


def said(launch: Launch, script: str, asked: list[str]) -> str:
    """What the shell that ran ``script`` has printed, with the number of its end in the last line."""
    out = launch.folder / "said"
    out.unlink(missing_ok=True)
    with out.open("wb") as file:
        ended = launch("sh", "-c", script, options=asked, output=file.fileno()).ended()
    return out.read_text() + ended[-1]


@pytest.mark.parametrize(
    "trial", ["cat other/secret", "echo x >> other/secret", "ls other", "rm other/secret", "other/run"]
)
def test_what_is_not_named_cannot_be_opened(launch: Launch, tmp_path: Path, trial: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "secret").write_text("secret\n")
    (other / "run").write_text("#!/bin/sh\n")
    (other / "run").chmod(0o755)
    (tmp_path / "own").mkdir()
    assert said(launch, f"{trial} >/dev/null; echo $?", confined_to(write=(tmp_path / "own",))).split("\n")[-2] != "0"
    assert (other / "secret").read_text() == "secret\n"
    assert said(launch, f"{trial}; echo $?", []).split("\n")[-2] == "0"


def test_what_is_named_can_be_used_as_it_was_named(launch: Launch, tmp_path: Path) -> None:
    own, image = tmp_path / "own", tmp_path / "image"
    own.mkdir()
    image.mkdir()
    (image / "program").write_text("#!/bin/sh\necho ran\n")
    (image / "program").chmod(0o755)
    asked = confined_to(read=(image,), write=(own,))
    script = "image/program; mkdir own/a && echo x > own/a/b && mv own/a/b own/c && cat own/c && rm -r own/a own/c"
    assert said(launch, script, asked) == "ran\nx\n0"
    assert said(launch, "touch image/new; rm image/program; echo y > image/program", asked) != "0"
    assert (image / "program").read_text().startswith("#!")
    assert not (image / "new").exists()


def test_a_file_of_its_own_is_as_good_as_a_directory(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1\n")
    (tmp_path / "two").write_text("2\n")
    asked = confined_to(read=(tmp_path / "one",))
    assert said(launch, "cat one; cat two 2>/dev/null", asked) == "1\n1"


def test_what_is_missing_is_left_out_when_it_was_to_be_read(launch: Launch, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert said(launch, "exit 3", confined_to(read=(nowhere,))) == "3"
    assert launch("true", options=confined_to(write=(nowhere,))).line() == "failed files 2"


@pytest.mark.parametrize("number", [0, 15])
def test_nobody_outside_can_be_signalled(launch: Launch, number: int) -> None:
    outside = subprocess.Popen(["sleep", "60"])
    try:
        # the same user on both sides: what keeps them apart is the confinement
        assert said(launch, f"kill -{number} {outside.pid} 2>/dev/null", confined_to()) == "1"
        assert said(launch, "sleep 60 & kill $!; wait $!", confined_to()) == "143"
        assert said(launch, f"kill -{number} {outside.pid}", []) == "0"
    finally:
        outside.kill()
        outside.wait()


def test_another_process_of_the_same_user_shows_neither_memory_nor_environment(launch: Launch) -> None:
    outside = subprocess.Popen(["sleep", "60"], env={"SECRET": "known"})
    try:
        for name in ("environ", "maps", "fd/0"):
            script = f"cat /proc/{outside.pid}/{name} < /dev/null > /dev/null 2>&1"
            # with CAP_PERFMON a process may read the memory of any other, Landlock or not
            assert said(launch, script, [*confined_to(), "--powerless"]) == "1", name
        assert "SECRET=known" in said(launch, f"cat /proc/{outside.pid}/environ", [])
    finally:
        outside.kill()
        outside.wait()


CALLS = {
    "a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
    "a packet socket": "socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)",
    "a user namespace": "call('unshare', 0x10000000)",
    "a child in a user namespace": "raw(CLONE, 0x10000000 | 17, 0, 0, 0, 0) or os._exit(0)",
    "a mount": "call('mount', b'tidemill', b'.', b'tmpfs', 0, b'size=64k')",
    "another root": "call('chroot', b'.')",
    "tracing": "call('ptrace', 0, 0, 0, 0)",
    "another's memory": "call('process_vm_readv', os.getppid(), None, 0, None, 0, 0)",
    "a key": "raw(ADD_KEY, b'user', b'tidemill', b'x', 1, -1)",
    "a shared memory that stays": "call('shmget', 0, 4096, 0o600)",
    "a program in the kernel": "raw(BPF, 0, MAP, 72)",
}
PYTHON = """
import ctypes, os, platform, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == 'x86_64'
CLONE, ADD_KEY, BPF = (56, 248, 321) if x86 else (220, 217, 280)
MAP = ctypes.create_string_buffer(struct.pack('IIII', 2, 4, 4, 1), 72)
def checked(done):
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done
def call(name, *words): return checked(getattr(libc, name)(*words))
def raw(number, *words): return checked(libc.syscall(number, *words))
try:
    TRIAL
except OSError as error:
    os._exit(error.errno)
"""


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_only_an_attacker_needs_is_refused(launch: Launch, tmp_path: Path, name: str) -> None:
    (tmp_path / "trial.py").write_text(PYTHON.replace("TRIAL", CALLS[name]))
    # in a mount namespace that ends with it: a mount that succeeds is nobody else's
    alone = ["unshare", "--mount", "--propagation", "private"] if ROOT else []
    refused = launch(sys.executable, "-S", "trial.py", options=["--calls"]).ended()
    assert refused in (["ended", "exit", "1"], ["ended", "exit", "97"])
    done = launch(*alone, sys.executable, "-S", "trial.py").ended()
    assert done == ["ended", "exit", "0"] or not ROOT


# by number, on x86-64: of each a call that would fail otherwise, for -1 is no address, no descriptor and no size
REFUSED = (
    *(29, 64, 68, 101, 103, 154, 155, 161, *range(163, 174), 175, 176, 179, 227, 240, 246, 248, 249, 250, 272, 298),
    *(304, 308, 310, 311, 312, 313, 320, 321, 323, *range(428, 434), 438, 440, 442, 443, 467),
)
NOT_THERE = (425, 426, 427, 435)
# close, lseek, fcntl, ftruncate, fchdir, fchmod, fstatfs, fchown, openat, readlinkat, pidfd_open, openat2, close_range
OTHERS = (3, 8, 72, 77, 81, 91, 93, 138, 257, 267, 434, 437, 441)
ASK = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
said = {}
for number in NUMBERS:
    ctypes.set_errno(0)
    libc.syscall(number, *[ctypes.c_long(-1)] * 6)
    said.setdefault(ctypes.get_errno(), []).append(number)
print(said)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="calls have other numbers on this machine")
def test_every_call_of_the_list_is_refused_and_none_beside_it(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "ask.py").write_text(ASK.replace("NUMBERS", str((*REFUSED, *NOT_THERE, *OTHERS))))
    found = ast.literal_eval(said(launch, f"{sys.executable} -S ask.py", ["--calls"]).splitlines()[0])
    assert sorted(found[errno.EPERM]) == sorted(REFUSED)
    assert sorted(found[errno.ENOSYS]) == sorted(NOT_THERE)


def test_ordinary_programs_do_not_notice_that_calls_are_refused(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "ordinary.py").write_text(
        "import socket, subprocess, threading, asyncio, multiprocessing\n"
        "threading.Thread(target=print).start()\n"
        "subprocess.run(['true'], check=True)\n"
        "server = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname()).close()\n"
        "socket.getaddrinfo('localhost', 80); socket.if_nameindex(); socket.socketpair()\n"
        "asyncio.run(asyncio.sleep(0)); multiprocessing.Lock()\n"
    )
    assert said(launch, f"{sys.executable} -S ordinary.py", ["--calls", "--powerless"]).strip() == "0"


def test_who_is_to_leave_others_alone_may_limit_itself_and_look(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "itself.py").write_text(
        "import os, resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)\n"
        "os.nice(1); os.setpriority(os.PRIO_PGRP, 0, 5); os.getpriority(os.PRIO_USER, 0)\n"
        "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))\n"
        "os.sched_setaffinity(0, os.sched_getaffinity(0))\n"
        "try:\n"
        "    resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, (32, 32))\n"
        "except PermissionError:\n"
        "    print('refused by number')\n"
    )
    words = f"{sys.executable} -S itself.py"
    assert said(launch, words, ["--apart"]).split("\n")[:2] == ["refused by number", "0"]


@as_root
@pytest.mark.parametrize("uid", [None, 54321])
def test_the_powerless_have_no_capability_and_get_none(launch: Launch, uid: int | None) -> None:
    script = "grep -E '^(Cap|NoNew|Groups|Uid)' /proc/self/status"
    facts = dict(
        line.split(":")
        for line in said(launch, script, as_user(uid, powerless=True) if uid else ["--powerless"]).split("\n")[:-1]
    )
    assert {name: int(value, 16) for name, value in facts.items() if name.startswith("Cap")} == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0
    )
    assert facts["Uid"].split() == [str(uid or 0)] * 4
    assert facts["Groups"].split() == [] or uid is None
    assert "CapEff:\t0000000000000000" not in said(launch, script, [])


@as_root
def test_processes_of_a_user_of_its_own_are_counted(launch: Launch) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; echo started"
    assert said(launch, script, as_user(54321, processes=4)).endswith("2")
    assert said(launch, f"{script}; kill 0", as_user(54321, processes=40)).startswith("started")


@as_root
def test_a_path_below_a_closed_directory_is_shown_and_nothing_beside_it(launch: Launch, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "shown" / "below").mkdir(parents=True)
    (closed / "shown" / "below" / "file").write_text("seen\n")
    (closed / "hidden").write_text("hidden\n")
    closed.chmod(0o700)
    file = closed / "shown" / "below" / "file"
    mounts = Path("/proc/mounts").read_text()
    asked = as_user(54321, show=(closed / "shown", Path("/usr")))
    assert said(launch, f"cat {file}; ls {closed}; cat {closed}/hidden 2>/dev/null", asked) == "seen\nshown\n1"
    assert said(launch, f"cat {file} 2>/dev/null", as_user(54321)) == "1"
    assert Path("/proc/mounts").read_text() == mounts
    assert (closed / "hidden").exists()


def test_what_cannot_be_done_keeps_a_command_from_starting(launch: Launch, tmp_path: Path) -> None:
    assert launch("true", options=[f"--show={tmp_path}/nowhere"]).line() == "failed view 2"
    if not ROOT:
        assert launch("true", options=as_user(1)).line() == "failed identity 1"


@pytest.mark.parametrize("option", ["--no-such=1", "--powerful", "--read=relative", "stray"])
def test_an_option_that_is_not_understood_starts_nothing(option: str) -> None:
    done = subprocess.run([LAUNCHER, "3", option, "--", "true"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert option in done.stderr


def test_the_probe_says_what_works_here(tmp_path: Path) -> None:
    words = [str(LAUNCHER), "--probe", *(["54321"] if ROOT else [])]
    lines = dict(
        line.split(" ", 1)
        for line in subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    )
    assert list(lines) == ["privileges", "capabilities", "uid", "files", "calls", "view", "network", "volumes"]
    assert lines["uid"] == ("1" if ROOT else "missing 1")
    assert lines["calls"] == "1"
