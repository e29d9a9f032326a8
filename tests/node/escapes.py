"""Ways out of a task: what each tries, as a script that exits with 0 when it got what it wanted.

Each is harmless to the machine when it succeeds: it looks, it opens and writes nothing, it asks whether it might. What
scripts may use stands in their environment: the paths and process numbers that ``Prison`` gives them.
"""

from typing import Final

PYTHON: Final = "$PYTHON -S -c"
# ends with 0 if the call did what it was asked, or failed for a reason that has nothing to do with permission
CALL: Final = (
    "import ctypes, errno, os, sys; libc = ctypes.CDLL(None, use_errno=True); "
    "done = libc.syscall(*[eval(word) for word in sys.argv[1:]]); "
    "sys.exit(done < 0 and ctypes.get_errno() in (errno.EPERM, errno.EACCES, errno.ENOSYS))"
)
# as it is, so that nothing changes when it may
LIMIT: Final = (
    "import resource, sys; who = int(sys.argv[1]); "
    "resource.prlimit(who, resource.RLIMIT_NOFILE, resource.prlimit(who, resource.RLIMIT_NOFILE))"
)

FILES: Final = {
    "list the data directory": "ls $DATA",
    "list the images": "ls $DATA/images",
    "read the key ring": "cat $DATA/keyring.json",
    "read the database": "cat $DATA/tidemill.db",
    "change the database": "test -w $DATA/tidemill.db && : >> $DATA/tidemill.db",
    "read the journal": "cat $DATA/node/journal",
    "put something into the data directory": "touch $DATA/left",
    "write its image": "touch new && rm new",
    "change a program of its image": ": >> program",
    "change a program by its mode": "chmod 777 program",
    "read another image": "cat $OTHER_IMAGE/image.json",
    "look into another task's directory": "ls $VICTIM_WORK",
    "read another task's arguments": "cat $VICTIM_WORK/task.json",
    "write another task's result": ": >> $VICTIM_WORK/result.json",
    "list the tasks that run": "ls $(dirname $VICTIM_WORK)",
    "read the passwords of the machine": "cat /etc/shadow",
    "leave a file in /tmp": "(set -C; : > /tmp/tidemill-left) && rm /tmp/tidemill-left",
    "leave a file in /var/tmp": "(set -C; : > /var/tmp/tidemill-left) && rm /var/tmp/tidemill-left",
    "change the kernel's settings": ": >> /proc/sys/kernel/core_pattern",
    "make a device": "mknod ${TIDEMILL_WORK_DIR:-.}/device c 1 3",
    "write to the kernel's log": ": >> /dev/kmsg",
    "make a cgroup": "mkdir $CGROUP/tidemill-escape && rmdir $CGROUP/tidemill-escape",
}

PROCESSES: Final = {
    "see the server's environment": "cat /proc/$SERVER_PID/environ",
    "see another task's environment": "tr '\\0' '\\n' < /proc/$VICTIM_PID/environ | grep SECRET",
    "see its launcher's environment": "cat /proc/$PPID/environ",
    "read another task's memory": "dd if=/proc/$VICTIM_PID/mem of=/dev/null bs=1 count=0",
    "see another task's maps": "cat /proc/$VICTIM_PID/maps",
    "see another task's files": "ls -l /proc/$VICTIM_PID/fd/1 && readlink /proc/$VICTIM_PID/fd/1",
    "enter another task's directory through /proc": "ls /proc/$VICTIM_PID/cwd/",
    "signal another task": "kill -0 $VICTIM_PID",
    "signal its launcher": "kill -0 $PPID",
    "signal the node": "kill -0 $NODE_PID",
    "signal the server": "kill -0 $SERVER_PID",
    "trace another task": f"{PYTHON} '{CALL}' $PTRACE 0x4206 $VICTIM_PID 0 0",
    "trace the node": f"{PYTHON} '{CALL}' $PTRACE 0x4206 $NODE_PID 0 0",
    "limit the server": f"{PYTHON} '{LIMIT}' $SERVER_PID",
    "limit the node": f"{PYTHON} '{LIMIT}' $NODE_PID",
    "slow down the node": f"{PYTHON} 'import os, sys; who = int(sys.argv[1]); "
    "os.setpriority(os.PRIO_PROCESS, who, os.getpriority(os.PRIO_PROCESS, who))' $NODE_PID",
    # of a user that others have too, and who are seen
    "slow down all of the node's user": "test -O /proc/$NODE_PID && "
    f"{PYTHON} 'import os; os.setpriority(os.PRIO_USER, 0, os.getpriority(os.PRIO_USER, 0))'",
    "schedule the node": f"{PYTHON} 'import os, sys; who = int(sys.argv[1]); "
    "os.sched_setscheduler(who, os.sched_getscheduler(who), os.sched_getparam(who))' $NODE_PID",
    "schedule the node by its parameters": f"{PYTHON} 'import os, sys; who = int(sys.argv[1]); "
    "os.sched_setparam(who, os.sched_getparam(who))' $NODE_PID",
    "make the node's disk slow": "ionice -c 2 -n 4 --pid $NODE_PID",
    "limit its launcher": f"{PYTHON} '{LIMIT}' $PPID",
    "speak to another program of the node's user": f"{PYTHON} 'import os, socket; "
    'socket.socket(socket.AF_UNIX).connect(os.environ["SERVICE"])\'',
    "speak to the node": f"{PYTHON} 'import os, socket; node = socket.socket(socket.AF_UNIX); node.settimeout(5); "
    'node.connect(os.environ["DATA"] + "/node.sock"); node.sendall(bytes.fromhex(os.environ["QUESTION"])); '
    "assert node.recv(1)'",
}

MACHINE: Final = {
    "become root": f"{PYTHON} 'import os; os.setuid(0); os.seteuid(0); os.setgroups([0])'",
    "become root by a program that may": 'test "$($SETUID_ID -u)" = 0 && test "$(id -u)" != 0',
    "mount": f"{PYTHON} '{CALL}' $MOUNT 0 0 0 0 0",
    "unmount": f"{PYTHON} '{CALL}' $UMOUNT 0 0",
    "change its root": f"{PYTHON} '{CALL}' $CHROOT 0",
    "load a module": f"{PYTHON} '{CALL}' $INIT_MODULE 0 0 0",
    "make a user namespace": "unshare --user true",
    "make a mount namespace": "unshare --mount true",
    "open a raw socket": f"{PYTHON} 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)'",
    "open a packet socket": f"{PYTHON} 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)'",
    "leave shared memory": f"{PYTHON} 'import ctypes, sys; libc = ctypes.CDLL(None); "
    "made = libc.shmget(0, 4096, 0o1600); libc.shmctl(made, 0, None); sys.exit(made < 0)'",
    "read the kernel's log": f"{PYTHON} '{CALL}' $SYSLOG 10 0 0",
    "set the clock": f"{PYTHON} '{CALL}' $CLOCK_SETTIME 0 0",
    "name the machine": f"{PYTHON} '{CALL}' $SETHOSTNAME 0 -1",
}

# root needs no such way: it is seen to work for another user
NOT_FOR_ROOT: Final = frozenset({"become root by a program that may"})

EVERY: Final = FILES | PROCESSES | MACHINE
