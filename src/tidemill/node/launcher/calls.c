/*
 * System calls: those that a task has no use for and an attacker has. A filter of the kernel (seccomp, classic BPF) refuses
 * them by number; everything else passes, and costs nothing, for the kernel remembers what always passes.
 */
#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/ioprio.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define OUR_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

/* calls of Linux 5.1 and later have one number on every architecture; headers may be older than they are */
enum {
    IO_URING_SETUP = 425,
    IO_URING_ENTER = 426,
    IO_URING_REGISTER = 427,
    OPEN_TREE = 428,
    MOVE_MOUNT = 429,
    FSOPEN = 430,
    FSCONFIG = 431,
    FSMOUNT = 432,
    FSPICK = 433,
    CLONE3 = 435,
    PIDFD_GETFD = 438,
    PROCESS_MADVISE = 440,
    MOUNT_SETATTR = 442,
    QUOTACTL_FD = 443,
    OPEN_TREE_ATTR = 467,
};

/* x86-64 accepts a second set of numbers, with this bit, that would pass every comparison below */
enum { OTHER_NUMBERS = 0x40000000, TYPE_OF_SOCKET = 0xf, FAKE_INPUT = 0x5412, CONSOLE_INPUT = 0x541c };

#define NEW_NAMESPACES                                                                                                   \
    (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
/* the lower half of an argument: both architectures are little-endian */
#define LOAD_ARGUMENT(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * (n))
#define LOAD_UPPER_HALF(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * (n) + 4)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define FAIL(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
/* do the next n instructions only if it is, or is not, so */
#define IF_EQUAL(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (n))
#define UNLESS_EQUAL(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (n), 0)
#define IF_AT_LEAST(value, n) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (value), 0, (n))
#define IF_ANY_OF(bits, n) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), 0, (n))
#define REFUSE(number) IF_EQUAL((number), 1), FAIL(EPERM)
/* what names a process by its first argument may name none but the caller, which is 0 */
#define REFUSE_OTHERS(number) IF_EQUAL((number), 4), LOAD_ARGUMENT(0), UNLESS_EQUAL(0, 1), FAIL(EPERM), ALLOW
/* what names some by a kind and a number: the caller, or the caller's group, and no user */
#define REFUSE_OTHERS_OF(number, user)                                                                                   \
    IF_EQUAL((number), 7), LOAD_ARGUMENT(0), IF_EQUAL((user), 1), FAIL(EPERM), LOAD_ARGUMENT(1), UNLESS_EQUAL(0, 1),     \
        FAIL(EPERM), ALLOW
#define ABSENT(number) IF_EQUAL((number), 1), FAIL(ENOSYS)

static const struct sock_filter REFUSED[] = {
#ifdef OUR_ARCHITECTURE
    LOAD(arch),
    UNLESS_EQUAL(OUR_ARCHITECTURE, 1),
    FAIL(ENOSYS),
    LOAD(nr),
    IF_AT_LEAST(OTHER_NUMBERS, 1),
    FAIL(ENOSYS),

    /* without clone3, whose arguments a filter cannot see, C libraries use clone, whose flags it can */
    ABSENT(CLONE3),
    IF_EQUAL(SYS_clone, 4),
    LOAD_ARGUMENT(0),
    IF_ANY_OF(NEW_NAMESPACES, 1),
    FAIL(EPERM),
    ALLOW,

    /* sockets of this machine, of the internet, and those by which programs ask for the machine's addresses */
    IF_EQUAL(SYS_socket, 12),
    LOAD_ARGUMENT(0),
    UNLESS_EQUAL(AF_NETLINK, 9),
    UNLESS_EQUAL(AF_UNIX, 8),
    UNLESS_EQUAL(AF_INET, 2),
    UNLESS_EQUAL(AF_INET6, 1),
    FAIL(EAFNOSUPPORT),
    LOAD_ARGUMENT(1),
    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TYPE_OF_SOCKET),
    UNLESS_EQUAL(SOCK_RAW, 1),
    IF_EQUAL(SOCK_PACKET, 1),
    FAIL(EPERM),
    ALLOW,

    /* nobody types into the terminal of whoever started the server */
    IF_EQUAL(SYS_ioctl, 5),
    LOAD_ARGUMENT(1),
    UNLESS_EQUAL(FAKE_INPUT, 1),
    IF_EQUAL(CONSOLE_INPUT, 1),
    FAIL(EPERM),
    ALLOW,

    /* other processes */
    REFUSE(SYS_ptrace),
    REFUSE(SYS_process_vm_readv),
    REFUSE(SYS_process_vm_writev),
    REFUSE(SYS_kcmp),
    REFUSE(PIDFD_GETFD),
    REFUSE(PROCESS_MADVISE),

    /* namespaces and mounts */
    REFUSE(SYS_unshare),
    REFUSE(SYS_setns),
    REFUSE(SYS_mount),
    REFUSE(SYS_umount2),
    REFUSE(SYS_pivot_root),
    REFUSE(SYS_chroot),
    REFUSE(OPEN_TREE),
    REFUSE(OPEN_TREE_ATTR),
    REFUSE(MOVE_MOUNT),
    REFUSE(FSOPEN),
    REFUSE(FSCONFIG),
    REFUSE(FSMOUNT),
    REFUSE(FSPICK),
    REFUSE(MOUNT_SETATTR),
    REFUSE(SYS_open_by_handle_at),

    /* the kernel: its programs, modules, keys, counters, and parts of it that have had more holes than others */
    REFUSE(SYS_bpf),
    REFUSE(SYS_perf_event_open),
    REFUSE(SYS_userfaultfd),
    ABSENT(IO_URING_SETUP),
    ABSENT(IO_URING_ENTER),
    ABSENT(IO_URING_REGISTER),
    REFUSE(SYS_add_key),
    REFUSE(SYS_request_key),
    REFUSE(SYS_keyctl),
    REFUSE(SYS_init_module),
    REFUSE(SYS_finit_module),
    REFUSE(SYS_delete_module),
    REFUSE(SYS_kexec_load),
    REFUSE(SYS_kexec_file_load),
    REFUSE(SYS_syslog),

    /* the machine */
    REFUSE(SYS_reboot),
    REFUSE(SYS_swapon),
    REFUSE(SYS_swapoff),
    REFUSE(SYS_acct),
    REFUSE(SYS_quotactl),
    REFUSE(QUOTACTL_FD),
    REFUSE(SYS_settimeofday),
    REFUSE(SYS_clock_settime),
    REFUSE(SYS_sethostname),
    REFUSE(SYS_setdomainname),
    REFUSE(SYS_vhangup),
#ifdef __x86_64__
    REFUSE(SYS_iopl),
    REFUSE(SYS_ioperm),
    REFUSE(SYS_modify_ldt),
#endif

    /* what the kernel keeps after everybody who used it has gone */
    REFUSE(SYS_shmget),
    REFUSE(SYS_semget),
    REFUSE(SYS_msgget),
    REFUSE(SYS_mq_open),
#endif
    ALLOW,
};

/*
 * By these calls a user changes any process of its own, its limits and its turn on the processors; it takes no right to trace it.
 * Which processors it runs on is let through: libraries of threads name each of theirs by its number.
 */
static const struct sock_filter REFUSED_BESIDE_OTHERS[] = {
#ifdef OUR_ARCHITECTURE
    LOAD(nr),
    IF_EQUAL(SYS_prlimit64, 9),
    LOAD_ARGUMENT(0),
    UNLESS_EQUAL(0, 6),
    /* whoever only asks has no new limits */
    LOAD_ARGUMENT(2),
    UNLESS_EQUAL(0, 1),
    FAIL(EPERM),
    LOAD_UPPER_HALF(2),
    UNLESS_EQUAL(0, 1),
    FAIL(EPERM),
    ALLOW,
    REFUSE_OTHERS_OF(SYS_setpriority, PRIO_USER),
    REFUSE_OTHERS_OF(SYS_ioprio_set, IOPRIO_WHO_USER),
    REFUSE_OTHERS(SYS_sched_setscheduler),
    REFUSE_OTHERS(SYS_sched_setparam),
    REFUSE_OTHERS(SYS_sched_setattr),
#endif
    ALLOW,
};

static bool filter(const struct sock_filter *instructions, size_t count)
{
#ifdef OUR_ARCHITECTURE
    const struct sock_fprog program = {.len = (unsigned short)count, .filter = (struct sock_filter *)instructions};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
#else
    (void)instructions, (void)count;
    errno = ENOSYS;
    return false;
#endif
}

bool restrict_calls(void)
{
    return filter(REFUSED, sizeof REFUSED / sizeof REFUSED[0]);
}

bool leave_others_alone(void)
{
    return filter(REFUSED_BESIDE_OTHERS, sizeof REFUSED_BESIDE_OTHERS / sizeof REFUSED_BESIDE_OTHERS[0]);
}
