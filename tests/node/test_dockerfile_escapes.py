"""What a step of a Dockerfile can never do; test_escapes.py sees that each way is one elsewhere."""

import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.node.dockerfiles import SHELL, Yard, why_no_dockerfiles
from tests.node.escapes import EVERY
from tests.node.prison import Node, Prison, pid_of, prison
from tests.node.rig import until
from tests.registry import PASSWORD, USER, basic, docker_config
from tidemill.model.lease import OutcomeKind
from tidemill.node.isolation.fence import TRIED
from tidemill.node.isolation.level import Level
from tidemill.node.launcher.build import compilers

WHY_NOT = why_no_dockerfiles()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

# a step that is root of its stage may change its root, and a folder that it has open then leads out of the old one
LEAVE = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int count, char **words)
{
    int outside = open("/", O_RDONLY | O_DIRECTORY);
    mkdir("/inner", 0755);
    if (count < 2 || chroot("/inner") != 0 || fchdir(outside) != 0)
        return 90;
    for (int i = 0; i < 64; i++)
        if (chdir("..") != 0)
            return 91;
    if (chroot(".") != 0)
        return 92;
    execv(words[1], words + 1);
    return 93;
}
"""
# what a step is root of, and what it started with: all of it goes with the container
OF_ITS_OWN = {
    "list the data directory",  # the way to its own private directory
    "leave a file in /tmp",
    "become root",
    "change its root",
    "leave shared memory",
    "see its launcher's environment",
    "signal its launcher",
}
# its image is what a step makes
OF_ITS_STAGE = {"write its image", "change a program of its image", "change a program by its mode"}
# in memory, in a place of that name
OF_ITS_CONTAINER = {"put something into the data directory", "write to the kernel's log"}
# the builder that it has left is of the same user: who limits it ends a build that is all its own
OF_ITS_BUILD = {"limit its launcher"}
# the kernel looks at the arguments, which are none, before it asks who calls; MORE has those that mean something
WITHOUT_MEANING = {"mount", "unmount"}
# does not find itself in what it is written in
SECRET = basic(USER, PASSWORD)
HIDDEN = f"[{SECRET[0]}]{SECRET[1:]}"
MORE = {
    "change a program of the machine": ": >> /usr/bin/env",
    "add a program to the machine's": "touch /usr/local/left",
    "show the machine's programs writable": "mount -o remount,bind,rw /usr",
    "make a network namespace": "unshare --net true",
    "make a cgroup namespace": "unshare --cgroup true",
    "enter the namespaces of its first process": "nsenter --target 1 --mount true",
    "mount memory": "mount -t tmpfs none /tmp",
    "unmount the machine's programs": "umount -l /usr",
    "look at other builds and tasks": 'test "$(ls $DATA/work | wc -l)" -gt 1',
    "see the processes of another build": "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep 'sleep [4]343'",
    "end another build": "kill -0 $(ps -ef | grep 'sleep [4]343' | head -n 1 | tr -s ' ' | cut -d ' ' -f 2)",
    "look at images": "ls $DATA/images",
    "look at sources": "ls $DATA/../blobs",
    "look at what installers have cached": "ls $DATA/cache",
    "find its source, with credentials": f"find $DATA/work/* -xdev -type f -exec grep -l '{HIDDEN}' {{}} + | grep .",
    "find credentials in its builder": f"cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | grep -q '{HIDDEN}'",
    "see the homes of the machine": "ls /root /home",
    "see what the machine's processes are": "kill -0 $NODE_PID || kill -0 $SERVER_PID",
    "have what tasks share": "ls $(dirname $SETUID_ID)",
}
NAMES = [*EVERY, *MORE]


@dataclass(frozen=True, slots=True)
class Cell:
    """A node with something worth stealing, which builds."""

    prison: Prison
    yard: Yard

    def found(self, way_in: str) -> set[str]:
        """Which of all the trials got what they wanted, as a step whose command ``way_in`` makes of a shell."""
        named = " ".join(f"export {name}={shlex.quote(value)};" for name, value in self.prison.variables.items())
        trials = [
            f"(cd / && sh -c {shlex.quote(script)}) >/dev/null 2>&1 </dev/null && echo GOT-{number}"
            for number, script in enumerate({**EVERY, **MORE}.values())
        ]
        script = f"{named}\nset +e\n" + "\n".join(trials) + "\necho TRIED $(ls /)\n"
        leave = self.yard.rig.root / "leave"
        lease = self.yard.lease(
            {
                "Dockerfile": f"{SHELL}COPY leave trials /\nRUN chmod +x /leave && {way_in} < /trials\nCMD x\n",
                "trials": script,
                "leave": leave.read_bytes(),
                ".docker/config.json": docker_config("registry.example.com"),
            }
        )
        self.yard.start(lease)
        assert self.yard.reader.outcome(lease.attempt).kind is OutcomeKind.SUCCEEDED
        said = self.yard.log("TRIED").splitlines()
        (self.yard.rig.root / "seen").write_text(next(line for line in reversed(said) if line.startswith("TRIED")))
        begin = max(number for number, line in enumerate(said) if "< /trials" in line)
        return {NAMES[int(line[4:])] for line in said[begin:] if line.startswith("GOT-")}

    @property
    def seen(self) -> str:
        """What lay in the root of the last step."""
        return (self.yard.rig.root / "seen").read_text()


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    with prison(Node.ROOT, Level.PROCESS) as found:
        (found.rig.root / "leave.c").write_text(LEAVE)
        words = [str(found.rig.root / "leave.c"), "-o", str(found.rig.root / "leave")]
        for compiler in compilers():
            if subprocess.run([*compiler, *words], check=False, capture_output=True).returncode == 0:
                break
        else:
            pytest.skip("no compiler makes a static program here")
        yard = Yard(found.rig, found.engine, found.reader)
        # another build, by the same numbers and at the same time
        yard.start(yard.lease({"Dockerfile": f"{SHELL}RUN exec sleep 4343\n"}, timeout_s=600))
        until(lambda: pid_of("sleep", "4343", below=found.rig.node_pid))
        yield Cell(found, yard)


def test_of_what_is_tried_much_is_a_way_where_nothing_is_in_it(cell: Cell) -> None:
    ways = {"see the processes of another build", "end another build", "see what the machine's processes are"}
    ways |= {"look at images", "look at sources", "have what tasks share", "see the homes of the machine"}
    for way in sorted(ways):
        words = ("sh", "-c", MORE[way])
        variables = {"PATH": os.environ["PATH"], **cell.prison.variables}
        done = subprocess.run(words, env=variables, check=False, capture_output=True, text=True)
        assert done.returncode == 0, (way, done.stderr)


def test_no_way_leads_out_of_a_step(cell: Cell) -> None:
    found = cell.found("sh")
    assert "bin" in cell.seen
    assert "usr" not in cell.seen
    assert found - OF_ITS_OWN - OF_ITS_STAGE == set()


def test_what_leaves_its_root_is_in_a_container_of_nobody_and_no_way_leads_out_of_that(cell: Cell) -> None:
    found = cell.found("/leave /bin/sh")
    # the machine's programs, to read: it has left
    assert "usr" in cell.seen
    assert found - OF_ITS_OWN - OF_ITS_CONTAINER - OF_ITS_BUILD - WITHOUT_MEANING == set()
    # it did look
    assert found >= OF_ITS_CONTAINER
    assert not (cell.yard.rig.data / "left").exists()
    assert not Path("/dev/kmsg").is_file()


def test_a_step_reaches_no_metadata_and_all_the_rest(cell: Cell) -> None:
    (node,) = cell.prison.engine.nodes()
    if "forbidden_addresses" not in node.capabilities:
        pytest.skip("no fence stands on this machine")
    # every fence forbids this address of the loopback too, so as to be tried
    with socket.create_server((TRIED, 0)) as forbidden, socket.create_server(("127.0.0.1", 0)) as other:
        listeners = (forbidden, other)
        for listener in listeners:
            listener.settimeout(60)
        tried = [f"nc -w 5 {host} {port} -e /bin/true" for host, port in (each.getsockname() for each in listeners)]
        outcome = cell.yard.build(f"{SHELL}RUN ! {tried[0]} && {tried[1]}\nCMD x\n")
        assert outcome.kind is OutcomeKind.SUCCEEDED, outcome.message
        # it is there, and was asked
        other.accept()[0].close()
        forbidden.settimeout(0)
        with pytest.raises(BlockingIOError):
            forbidden.accept()
