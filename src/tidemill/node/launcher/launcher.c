/*
 * Starts the command of one attempt, confines it, owns every process that comes of it, and says how it ended.
 *
 *   tidemill-launcher CONTROL_FD [--OPTION[=VALUE]...] -- COMMAND [ARGUMENT...]
 *   tidemill-launcher --probe [UID]
 *   tidemill-launcher --version
 *
 * Options, in the order in which they take effect, all but the first two on the command alone:
 *   --network=none     it has a network of its own, in which there is its own loopback and nothing else
 *   --listen=PORT      there, before it starts, somebody listens at 127.0.0.1:PORT: whoever holds CONTROL_FD's other end
 *   --join=FILE        it is in the group whose cgroup.procs this is; one option for each group
 *   --data=BYTES --fsize=BYTES --nproc=N   hard limits: of memory for data, of a file's size, of processes of its user
 *   --nofile=N         the soft limit of open files; the hard one stays
 *   --show=PATH        any user shall reach PATH: a directory above it that only some may pass through is replaced, for the
 *                      command alone, by one that holds only the way to PATH
 *   --volume=BYTES:rw:PATH   at PATH there is a directory of its own of that size, empty, in memory (ro: it stays empty)
 *   --files            it may open only what is named: --read=PATH (and run), --write=PATH, with everything below (Landlock);
 *                      a PATH to read that does not exist is left out
 *   --keep-ruleset     what --files makes is given to whoever holds CONTROL_FD's other end; commands that are confined to the
 *                      same files, under whatever names, may be given it as --ruleset=FD, instead of --files
 *   --uid=N            it runs as user and group N, in no other group
 *   --alone            and nobody else is user N: to kill the tree is to kill all that is of that user
 *   --powerless        it has no capabilities and gets none, root or not
 *   --calls            the system calls in calls.c fail (seccomp)
 *   --apart            it may not change the limits and the priority of other processes of its user (seccomp)
 *   --directory=PATH   where it begins
 *   --within           COMMAND, an absolute path, makes a place and starts a second launcher in it as
 *                      "tidemill-launcher 3 --environment=4 ..." with what it was given as 3 and 4; the facts are that one's
 *   --environment=FD   the command's environment is read from there (within.c)
 * Always: a session of its own, no core dumps, no_new_privs, default signals, no descriptors but the first three.
 * The environment is the command's own; with --within that of the command proper, and COMMAND has none. Whatever is asked for and cannot be done: the command does not start.
 *
 * CONTROL_FD is one end of a stream socket pair. The launcher writes one line a fact:
 *   listening                          with it comes the socket that listens (SCM_RIGHTS); only with --listen, and first
 *   ruleset                            with it comes the ruleset (SCM_RIGHTS); only with --keep-ruleset
 *   started PID STARTTIME BEGUN_US     the command runs (STARTTIME as in /proc/PID/stat), since then by CLOCK_MONOTONIC
 *   failed STEP ERRNO                  it could not be started; STEP is one word
 *   ended exit|signal N CPU_US RSS_KB  it ended, and nothing of its tree is left
 * and reads one byte a command: 'T' sends SIGTERM to the whole tree, 'K' kills it. When the other end is closed, even by
 * kill -9 of the node, the tree is killed.
 *
 * As a subreaper it inherits every orphan below it, so a daemon that has left its session is still found. All signals are
 * blocked here: only SIGKILL ends the launcher early, and then the command gets SIGKILL from the kernel.
 *
 * As process 1 of a list of its own, as within a sandbox, it owns all of that list, and the kernel sees to it that nothing there
 * outlives it. What is within never hears from outside but through the socket: SIGTERM goes to what is in the list, not to what
 * made it.
 *
 * --probe prints what works on this machine, a line each (probe.c).
 */
#define _GNU_SOURCE
#include "confine.h"
#include "within.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STOP_ROUNDS = 100, KILL_ROUND_MS = 10 };
/* a command that has ended by then is told of once, with its end: who listens is woken once for it */
enum { TOLD_AFTER_MS = 2 };

struct process {
    pid_t pid;
    pid_t parent;
    pid_t group;
    char state;
    bool ours;
};

struct failure {
    const char *step;
    int error;
};

static int control;
static int child_signals;
static pid_t command_pid;
static bool command_ended;
static int command_status;
/* whether the command is a place with a launcher in it; `within.control` is -1 when it is not, or nobody is left there */
static bool runs_within;
static bool ordered;
/* the command's user where nobody else is it, NULL otherwise */
static const char *sole_user;
static struct within within = {.control = -1, .theirs = -1, .environment = -1};

/* of a command that runs and that nobody has been told of yet: since when, by the kernel's clock of starts and by ours */
static bool untold;
static unsigned long long born;
static struct timespec begun;

static struct process *table;
static size_t table_size;
static size_t table_room;

/* ---- facts */

static void say(const char *line)
{
    /* when nobody listens any more, the end of file on the same socket says so */
    ssize_t sent = send(control, line, strlen(line), MSG_NOSIGNAL);
    (void)sent;
}

static unsigned long long start_time(pid_t pid);

static void note_start(void)
{
    untold = true;
    born = start_time(command_pid);
    clock_gettime(CLOCK_MONOTONIC, &begun);
}

/* The line about the start, if nobody was told: how long it is. */
static size_t write_started(char *line, size_t size)
{
    if (!untold)
        return 0;
    untold = false;
    long long begun_us = (long long)begun.tv_sec * 1000000 + begun.tv_nsec / 1000;
    return (size_t)snprintf(line, size, "started %d %llu %lld\n", (int)command_pid, born, begun_us);
}

static void say_started(void)
{
    char line[96] = "";
    if (write_started(line, sizeof line) > 0)
        say(line);
}

static void say_failed(const struct failure *failure)
{
    char line[96];
    snprintf(line, sizeof line, "failed %s %d\n", failure->step, failure->error);
    say(line);
}

static void say_ended(void)
{
    char line[224];
    size_t length = write_started(line, sizeof line);
    struct rusage used = {0};
    bool signalled = WIFSIGNALED(command_status);
    getrusage(RUSAGE_CHILDREN, &used);
    long long cpu_us = (long long)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
                       used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    snprintf(line + length, sizeof line - length, "ended %s %d %lld %ld\n", signalled ? "signal" : "exit",
             signalled ? WTERMSIG(command_status) : WEXITSTATUS(command_status), cpu_us, used.ru_maxrss);
    say(line);
}

/* ---- the tree, from /proc */

/* The text after the name in /proc/PID/stat, which begins with the state; NULL when there is no such process. */
static const char *read_stat(pid_t pid, char *buffer, size_t size)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    ssize_t length = read(fd, buffer, size - 1);
    close(fd);
    if (length <= 0)
        return NULL;
    buffer[length] = '\0';
    /* a name may hold spaces and brackets; nothing after it does */
    char *name_end = strrchr(buffer, ')');
    return name_end != NULL && name_end[1] == ' ' ? name_end + 2 : NULL;
}

static unsigned long long start_time(pid_t pid)
{
    char buffer[1024];
    const char *fields = read_stat(pid, buffer, sizeof buffer);
    /* field 22 of the file; `fields` begins with field 3 */
    for (int field = 3; fields != NULL && field < 22; field++) {
        fields = strchr(fields, ' ');
        if (fields != NULL)
            fields++;
    }
    return fields == NULL ? 0 : strtoull(fields, NULL, 10);
}

static bool add_process(pid_t pid)
{
    char buffer[1024];
    struct process found = {.pid = pid};
    const char *fields = read_stat(pid, buffer, sizeof buffer);
    if (fields == NULL)
        return true;
    found.state = fields[0];
    char *rest = NULL;
    found.parent = (pid_t)strtol(fields + 1, &rest, 10);
    found.group = (pid_t)strtol(rest, NULL, 10);
    if (table_size == table_room) {
        size_t room = table_room == 0 ? 512 : table_room * 2;
        struct process *bigger = realloc(table, room * sizeof *table);
        if (bigger == NULL)
            return false;
        table = bigger;
        table_room = room;
    }
    table[table_size++] = found;
    return true;
}

static int by_pid(const void *left, const void *right)
{
    pid_t a = ((const struct process *)left)->pid, b = ((const struct process *)right)->pid;
    return (a > b) - (a < b);
}

static bool is_ours(pid_t pid)
{
    struct process key = {.pid = pid};
    const struct process *found = bsearch(&key, table, table_size, sizeof *table, by_pid);
    return found != NULL && found->ours;
}

/* Fills `table` with every process of the machine and marks our descendants. */
static void list_tree(void)
{
    pid_t self = getpid();
    table_size = 0;
    DIR *directory = opendir("/proc");
    if (directory == NULL)
        return;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && !add_process((pid_t)atoi(entry->d_name)))
            break;
    }
    closedir(directory);
    qsort(table, table_size, sizeof *table, by_pid);
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < table_size; i++) {
            if (!table[i].ours && (table[i].parent == self || is_ours(table[i].parent)))
                table[i].ours = changed = true;
        }
    }
}

static void signal_tree(int number)
{
    if (getpid() == 1) {
        kill(-1, number);
        return;
    }
    list_tree();
    for (size_t i = 0; i < table_size; i++) {
        if (table[i].ours)
            kill(table[i].pid, number);
    }
}

/*
 * Kills the process group of one that is ours: all of it at once, so that what forks faster than it can be listed is caught
 * too. A group is never of more than one session, and a session begins with one process: all in it are ours.
 */
static void kill_group(const struct process *one)
{
    if (one->group > 1 && one->group != getpgrp())
        kill(-one->group, SIGKILL);
}

/* Until a listing shows nothing that still runs, so that what is killed next cannot have made more of itself. */
static void stop_tree(void)
{
    for (int round = 0; round < STOP_ROUNDS; round++) {
        bool found = false;
        list_tree();
        for (size_t i = 0; i < table_size; i++) {
            if (table[i].ours && strchr("TtZX", table[i].state) == NULL) {
                kill_group(&table[i]);
                kill(table[i].pid, SIGSTOP);
                found = true;
            }
        }
        if (!found)
            return;
        sched_yield();
    }
}

/* Collects what has ended. False when no child is left. */
static bool reap(void)
{
    for (;;) {
        int status = 0;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid == 0)
            return true;
        if (pid < 0)
            return errno != ECHILD;
        if (pid == command_pid) {
            command_ended = true;
            command_status = status;
        }
    }
}

static void drain_child_signals(void)
{
    struct signalfd_siginfo info[16];
    while (read(child_signals, info, sizeof info) > 0) {
    }
}

/* Becomes the user and kills all that is of it, which the kernel does in one step that no fork outruns. */
static int kill_as(const char *user)
{
    uid_t uid = (uid_t)strtoul(user, NULL, 10);
    /* root, or who kept a capability, would kill everybody */
    if (uid == 0 || !become(user) || !drop_capabilities() || getuid() != uid || geteuid() != uid)
        return 1;
    return kill(-1, SIGKILL) == 0 || errno == ESRCH ? 0 : 1;
}

/* Kills all that is of the command's user. False when that cannot be done. */
static bool kill_user(void)
{
    int status = 0;
    pid_t ended = 0;
    pid_t killer = sole_user == NULL ? -1 : fork();
    if (killer == 0)
        _exit(kill_as(sole_user));
    if (killer < 0)
        return false;
    for (int round = 0; round < STOP_ROUNDS && ended == 0; round++) {
        struct pollfd wait = {.fd = child_signals, .events = POLLIN};
        poll(&wait, 1, KILL_ROUND_MS);
        drain_child_signals();
        ended = waitpid(killer, &status, WNOHANG);
    }
    if (ended == 0) {
        /* it was of that user for a moment, and is stopped by the others of it */
        kill(killer, SIGKILL);
        waitpid(killer, &status, 0);
    }
    return ended == killer && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void kill_tree(void)
{
    if (!reap())
        return;
    /* with the first process of a list of its own the kernel ends all of it, however fast it grows */
    if (getpid() != 1 && !runs_within && !kill_user())
        stop_tree();
    do {
        struct pollfd wait = {.fd = child_signals, .events = POLLIN};
        signal_tree(SIGKILL);
        poll(&wait, 1, KILL_ROUND_MS);
        drain_child_signals();
    } while (reap());
}

/* ---- what is asked for */

/* The value of an option "--NAME=VALUE" whose "--NAME=" is `name`; NULL for another one. */
static const char *value_of(const char *word, const char *name)
{
    size_t length = strlen(name);
    return strncmp(word, name, length) == 0 ? word + length : NULL;
}

static bool take_path(struct wish *wish, enum path_use use, const char *name)
{
    if (wish->path_count == PATHS_MAX || (name[0] != '/' && use != PATH_VOLUME))
        return false;
    if (use == PATH_VOLUME)
        wish->volumes = true;
    wish->paths[wish->path_count++] = (struct path){.name = name, .use = use};
    return true;
}

static bool take_option(struct wish *wish, const char *word)
{
    const struct {
        const char *name;
        const char **where;
    } values[] = {
        {"--directory=", &wish->directory}, {"--data=", &wish->data},   {"--nofile=", &wish->nofile},
        {"--fsize=", &wish->fsize},         {"--nproc=", &wish->nproc}, {"--uid=", &wish->uid},
        {"--listen=", &wish->listen},
        {"--environment=", &wish->environment}, {"--ruleset=", &wish->ruleset},
    };
    const struct {
        const char *name;
        enum path_use use;
    } paths[] = {
        {"--join=", PATH_JOIN}, {"--read=", PATH_READ}, {"--write=", PATH_WRITE}, {"--show=", PATH_SHOW}, {"--volume=", PATH_VOLUME},
    };
    const struct {
        const char *name;
        bool *where;
    } flags[] = {
        {"--powerless", &wish->powerless},
        {"--files", &wish->files},
        {"--keep-ruleset", &wish->keep_ruleset},
        {"--alone", &wish->alone},
        {"--calls", &wish->calls},
        {"--apart", &wish->apart},
        {"--within", &wish->within},
        {"--network=none", &wish->no_network},
    };
    const char *value;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        if ((value = value_of(word, values[i].name)) != NULL) {
            *values[i].where = value;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if ((value = value_of(word, paths[i].name)) != NULL)
            return take_path(wish, paths[i].use, value);
    }
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(word, flags[i].name) == 0)
            return *flags[i].where = true;
    }
    return false;
}

static bool take_wish(struct wish *wish, char **words)
{
    for (; *words != NULL && strcmp(*words, "--") != 0; words++) {
        if (!take_option(wish, *words)) {
            fprintf(stderr, "tidemill-launcher: no such option, or a path that is not absolute: %s\n", *words);
            return false;
        }
    }
    wish->command = words + 1;
    return *words != NULL && words[1] != NULL;
}

/* ---- starting */

static bool limit(int resource, const char *text, bool hard)
{
    struct rlimit now;
    if (text == NULL)
        return true;
    if (getrlimit(resource, &now) != 0)
        return false;
    rlim_t wanted = strtoull(text, NULL, 10);
    now.rlim_cur = wanted < now.rlim_max ? wanted : now.rlim_max;
    if (hard)
        now.rlim_max = now.rlim_cur;
    return setrlimit(resource, &now) == 0;
}

static bool set_limits(const struct wish *wish)
{
    return limit(RLIMIT_DATA, wish->data, true) && limit(RLIMIT_NOFILE, wish->nofile, false) &&
           limit(RLIMIT_FSIZE, wish->fsize, true) && limit(RLIMIT_NPROC, wish->nproc, true) &&
           limit(RLIMIT_CORE, "0", true);
}

/* Runs between vfork and exec: returns, with the step that failed, only when it could not exec. */
static const char *enter(const struct wish *wish)
{
    sigset_t none;
    int ruleset = wish->ruleset == NULL ? -1 : atoi(wish->ruleset);
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    /* the node keeps its own files to itself; what a task makes is the task's business */
    umask(022);
    if (setsid() < 0)
        return "session";
    /* first: what the steps after it use is the command's */
    if (!join_groups(wish))
        return "group";
    if (!set_limits(wish))
        return "limits";
    if (!show_paths(wish))
        return "view";
    if (!mount_volumes(wish))
        return "volume";
    /* while we may still open all that is named */
    if (wish->files && (ruleset = make_ruleset(wish)) < 0)
        return "files";
    if (wish->files && wish->keep_ruleset && !send_descriptor(control, "ruleset\n", ruleset))
        return "files";
    if (wish->powerless && geteuid() == 0 && !drop_bounding_set())
        return "capabilities";
    if (wish->uid != NULL && !become(wish->uid))
        return "identity";
    if (wish->powerless && !drop_capabilities())
        return "capabilities";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return "privileges";
    /* after the change of identity, which clears it */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return "privileges";
    if (ruleset >= 0 && !restrict_files(ruleset))
        return "files";
    if (wish->directory != NULL && chdir(wish->directory) != 0)
        return "directory";
    if (wish->apart && !leave_others_alone())
        return "calls";
    if (wish->calls && !restrict_calls())
        return "calls";
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (wish->within) {
        char *nothing[] = {NULL};
        if (hand_over(&within))
            execve(wish->command[0], wish->command, nothing);
        return "sandbox";
    }
    execvp(wish->command[0], wish->command);
    if (errno == ENOEXEC) {
        /* a script that does not say of what: so do shells and one C library, and not the other. Before the command stands
           the "--" of our own arguments */
        wish->command[-1] = (char[]){"sh"};
        execv("/bin/sh", wish->command - 1);
    }
    return "exec";
}

static pid_t start(const struct wish *wish, volatile struct failure *failure)
{
    /* the parent waits until the child has left its memory: what `failure` says then is final */
    pid_t pid = vfork();
    if (pid == 0) {
        failure->step = enter(wish);
        failure->error = errno;
        _exit(127);
    }
    if (pid < 0) {
        failure->step = "fork";
        failure->error = errno;
    }
    return pid;
}

static void read_nothing(void)
{
    int null = open("/dev/null", O_RDONLY);
    if (null > STDIN_FILENO) {
        dup2(null, STDIN_FILENO);
        close(null);
    }
}

static void obey(char order)
{
    ordered = true;
    if (order == 'K')
        kill_tree();
    if (order == 'T' && runs_within)
        pass_on(&within, order);
    if (order == 'T' && !runs_within) {
        signal_tree(SIGTERM);
        /* a stopped process takes the signal only when it goes on */
        signal_tree(SIGCONT);
    }
}

/* What is to be said of a command that is a place, when nothing of it is left. */
static void say_end_within(void)
{
    const struct failure unmade = {.step = "sandbox", .error = EIO};
    if (hear(&within)) {
        note_start();
        say_started();
    }
    if (within.fact[0] != '\0') {
        say(within.fact);
    } else if (!within.started && !ordered) {
        /* what it is about stands in what the command has printed */
        say_failed(&unmade);
    } else {
        /* who knew how it ended was killed, as by us */
        command_status = SIGKILL;
        say_ended();
    }
}

/* Until the command has ended or nobody listens; false for the latter. */
static bool watch(void)
{
    struct pollfd waits[3] = {{.fd = control, .events = POLLIN}, {.fd = child_signals, .events = POLLIN}, {.events = POLLIN}};
    while (!command_ended) {
        waits[2].fd = within.control;
        int ready = poll(waits, 3, untold ? TOLD_AFTER_MS : -1);
        if (ready < 0 && errno != EINTR)
            return false;
        if (ready == 0 || waits[0].revents != 0)
            say_started();
        if (waits[0].revents != 0) {
            char order = 0;
            ssize_t length = recv(control, &order, 1, MSG_DONTWAIT);
            if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR))
                return false;
            if (length == 1)
                obey(order);
        }
        if (waits[2].revents != 0 && hear(&within)) {
            note_start();
            say_started();
        }
        if (waits[1].revents != 0) {
            drain_child_signals();
            reap();
        }
    }
    return true;
}

/* Other descriptors, such as the file that a node finds locked until we are gone, are ours and not the command's. */
static void keep_from_command(void)
{
    if (syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC, Linux 5.11 */) == 0)
        return;
    for (int fd = 3; fd < 256; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* What takes effect for the launcher too. The step that failed, or NULL. */
static const char *prepare(const struct wish *wish)
{
    if (wish->no_network && !leave_network(wish->uid))
        return "network";
    if (wish->volumes && !may_mount(wish->uid))
        return "volume";
    if (wish->listen != NULL) {
        int listener = listen_at(wish->listen);
        if (listener < 0 || !send_descriptor(control, "listening\n", listener))
            return "listener";
        close(listener);
    }
    if ((wish->within && !open_within(&within)) || (wish->environment != NULL && !take_environment(wish->environment)))
        return "environment";
    /* our environment is the command's, with its secrets: no other task of this user shall read it here. It comes last,
       for it also closes our files in /proc to ourselves */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return "launcher";
    return NULL;
}

static int usage(void)
{
    fputs("usage: tidemill-launcher CONTROL_FD [--OPTION[=VALUE]...] -- COMMAND [ARGUMENT...]\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    sigset_t all;
    struct failure failure = {0};
    struct wish wish = {0};
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("tidemill-launcher 4");
        return 0;
    }
    if (argc >= 2 && argc <= 3 && strcmp(argv[1], "--probe") == 0)
        return probe(argv[2]);
    if (argc < 4 || !take_wish(&wish, argv + 2))
        return usage();
    control = atoi(argv[1]);
    keep_from_command();
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    /* a parent that ignores SIGCHLD would have the kernel throw the exit status away */
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&all);
    sigaddset(&all, SIGCHLD);
    child_signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    runs_within = wish.within;
    sole_user = wish.alone ? wish.uid : NULL;
    read_nothing();
    failure.step = child_signals < 0 ? "launcher" : prepare(&wish);
    failure.error = errno;
    if (failure.step == NULL)
        command_pid = start(&wish, &failure);
    if (wish.within)
        close_theirs(&within);
    /* the pipes' only writers are the command and what it starts; from here on we print nothing */
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    if (failure.step != NULL) {
        say_failed(&failure);
        return 1;
    }
    if (!wish.within)
        note_start();
    bool heard = watch();
    kill_tree();
    if (heard && wish.within)
        say_end_within();
    else if (heard)
        say_ended();
    return 0;
}
