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
#include <stdlib.h>
#include <string.h>
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

#define LENGTH(array) (sizeof(array) / sizeof *(array))
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
/* what names a process by its first argument may name none but the caller, which is 0 */
#define REFUSE_OTHERS(number) IF_EQUAL((number), 4), LOAD_ARGUMENT(0), UNLESS_EQUAL(0, 1), FAIL(EPERM), ALLOW
/* what names some by a kind and a number: the caller, or the caller's group, and no user */
#define REFUSE_OTHERS_OF(number, user)                                                                                   \
    IF_EQUAL((number), 7), LOAD_ARGUMENT(0), IF_EQUAL((user), 1), FAIL(EPERM), LOAD_ARGUMENT(1), UNLESS_EQUAL(0, 1),     \
        FAIL(EPERM), ALLOW

/* ---- what is refused */

/* What becomes of a call: refused, or said not to exist; or looked at by its arguments. */
enum answer { REFUSED, NOT_THERE, LOOK_AT_CLONE, LOOK_AT_SOCKET, LOOK_AT_IOCTL, ANSWERS };

struct call {
    unsigned number;
    enum answer answer;
};

#define REFUSE(number) {(number), REFUSED}
#define ABSENT(number) {(number), NOT_THERE}

static const struct call CALLS[] = {
#ifdef OUR_ARCHITECTURE
    /* without clone3, whose arguments a filter cannot see, C libraries use clone, whose flags it can */
    ABSENT(CLONE3),
    {SYS_clone, LOOK_AT_CLONE},
    {SYS_socket, LOOK_AT_SOCKET},
    {SYS_ioctl, LOOK_AT_IOCTL},

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
};

static const struct sock_filter LOOKS_AT_CLONE[] = {
    LOAD_ARGUMENT(0),
    IF_ANY_OF(NEW_NAMESPACES, 1),
    FAIL(EPERM),
    ALLOW,
};

/* sockets of this machine, of the internet, and those by which programs ask for the machine's addresses */
static const struct sock_filter LOOKS_AT_SOCKET[] = {
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
};

/* nobody types into the terminal of whoever started the server */
static const struct sock_filter LOOKS_AT_IOCTL[] = {
    LOAD_ARGUMENT(1),
    UNLESS_EQUAL(FAKE_INPUT, 1),
    IF_EQUAL(CONSOLE_INPUT, 1),
    FAIL(EPERM),
    ALLOW,
};

static const struct sock_filter IS_REFUSED[] = {FAIL(EPERM)};
static const struct sock_filter IS_NOT_THERE[] = {FAIL(ENOSYS)};

static const struct {
    const struct sock_filter *program;
    size_t length;
} ANSWERED[ANSWERS] = {
    [REFUSED] = {IS_REFUSED, LENGTH(IS_REFUSED)},
    [NOT_THERE] = {IS_NOT_THERE, LENGTH(IS_NOT_THERE)},
    [LOOK_AT_CLONE] = {LOOKS_AT_CLONE, LENGTH(LOOKS_AT_CLONE)},
    [LOOK_AT_SOCKET] = {LOOKS_AT_SOCKET, LENGTH(LOOKS_AT_SOCKET)},
    [LOOK_AT_IOCTL] = {LOOKS_AT_IOCTL, LENGTH(LOOKS_AT_IOCTL)},
};

/* ---- the program */

/*
 * The kernel tries each of its calls on a program that is installed, to remember those that always pass. One comparison after
 * the other would be 30,000 steps, a fifth of a millisecond for every command; in a tree they are some 3,000.
 */
enum { LEAF = 3, PROGRAM_MAX = 250, TO_BE_SAID = 0xff };

static struct call sorted[LENGTH(CALLS) + 1];
static struct sock_filter program[PROGRAM_MAX];
/* where a jump leads that does not know it yet, of the instructions that are comparisons of a leaf */
static enum answer said_by[PROGRAM_MAX];
static size_t length;

static void add(struct sock_filter instruction)
{
    /* what does not fit is refused by the kernel, which has no program of that length then */
    if (length < PROGRAM_MAX)
        program[length] = instruction;
    length++;
}

static void add_tree(const struct call *first, size_t count)
{
    if (count <= LEAF) {
        for (size_t i = 0; i < count; i++) {
            if (length < PROGRAM_MAX)
                said_by[length] = first[i].answer;
            add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, first[i].number, TO_BE_SAID, 0));
        }
        add((struct sock_filter)ALLOW);
        return;
    }
    size_t half = count / 2, fork = length;
    add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first[half].number, 0, 0));
    add_tree(first, half);
    if (fork < PROGRAM_MAX)
        program[fork].jt = (unsigned char)(length - fork - 1);
    add_tree(first + half, count - half);
}

static int by_number(const void *left, const void *right)
{
    unsigned a = ((const struct call *)left)->number, b = ((const struct call *)right)->number;
    return (a > b) - (a < b);
}

/* Whether it fits: a jump leads 255 instructions far at most. */
static bool write_program(unsigned architecture)
{
    const struct sock_filter begin[] = {
        LOAD(arch), UNLESS_EQUAL(architecture, 1), FAIL(ENOSYS), LOAD(nr), IF_AT_LEAST(OTHER_NUMBERS, 1), FAIL(ENOSYS),
    };
    memcpy(sorted, CALLS, sizeof CALLS);
    qsort(sorted, LENGTH(CALLS), sizeof *sorted, by_number);
    length = 0;
    for (size_t i = 0; i < LENGTH(begin); i++)
        add(begin[i]);
    size_t tree = length;
    add_tree(sorted, LENGTH(CALLS));
    size_t end = length;
    for (enum answer answer = 0; answer < ANSWERS; answer++) {
        for (size_t i = tree; i < end && length < PROGRAM_MAX; i++) {
            if (program[i].jt == TO_BE_SAID && said_by[i] == answer && BPF_OP(program[i].code) == BPF_JEQ)
                program[i].jt = (unsigned char)(length - i - 1);
        }
        for (size_t i = 0; i < ANSWERED[answer].length; i++)
            add(ANSWERED[answer].program[i]);
    }
    return length <= PROGRAM_MAX;
}

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
#ifdef OUR_ARCHITECTURE
    if (!write_program(OUR_ARCHITECTURE)) {
        errno = E2BIG;
        return false;
    }
#endif
    return filter(program, length);
}

bool leave_others_alone(void)
{
    return filter(REFUSED_BESIDE_OTHERS, LENGTH(REFUSED_BESIDE_OTHERS));
}
