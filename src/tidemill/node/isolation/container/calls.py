"""System calls that are refused to builds of Dockerfiles, in the words of an OCI runtime's config.json.

The launcher's own filter (launcher/calls.c) is not for them: who lays layers over each other has to mount and to change
its root. What is here is what that leaves: other processes, the kernel, the machine, and namespaces in which the kernel
would let root do what it lets no user do.
"""

import errno
import platform
from collections.abc import Mapping
from typing import Final

_ARCHITECTURES: Final = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}
_REFUSED: Final = (
    # other processes, and files that have no name here
    *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "process_madvise", "setns"),
    "open_by_handle_at",
    # the kernel: its programs, modules, keys and counters
    *("bpf", "perf_event_open", "userfaultfd", "add_key", "request_key", "keyctl", "syslog"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load"),
    # mounts by calls that a filter cannot see into; there are older ones
    *("fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "open_tree_attr", "move_mount", "mount_setattr"),
    # the machine
    *("reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "settimeofday", "clock_settime"),
    *("vhangup", "iopl", "ioperm", "modify_ldt"),
)
# programs know what to do without them
_ABSENT: Final = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register")
# CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWCGROUP
_NAMESPACES: Final = (0x10000000, 0x40000000, 0x02000000)
# of the numbers of families AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK are left
_FAMILIES: Final = (*range(3, 10), *range(11, 16))
_FIRST_FAMILY_AFTER: Final = 17


def refused_calls() -> dict[str, object]:
    """The value of ``linux.seccomp``."""
    rules = [_rule(_REFUSED, errno.EPERM), _rule(_ABSENT, errno.ENOSYS)]
    for flag in _NAMESPACES:
        argument = {"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}
        rules += [_rule((name,), errno.EPERM, argument) for name in ("clone", "unshare")]
    for family in _FAMILIES:
        rules.append(_rule(("socket",), errno.EAFNOSUPPORT, {"index": 0, "value": family, "op": "SCMP_CMP_EQ"}))
    after = {"index": 0, "value": _FIRST_FAMILY_AFTER, "op": "SCMP_CMP_GE"}
    rules.append(_rule(("socket",), errno.EAFNOSUPPORT, after))
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [*_ARCHITECTURES.get(platform.machine(), ())],
        "syscalls": rules,
    }


def _rule(names: tuple[str, ...], error: int, *arguments: Mapping[str, object]) -> dict[str, object]:
    rule: dict[str, object] = {"names": [*names], "action": "SCMP_ACT_ERRNO", "errnoRet": error}
    return {**rule, "args": [*arguments]} if arguments else rule
