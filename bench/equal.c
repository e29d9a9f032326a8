/*
 * What a node does for each task at level process, by a C program that does nothing else: two workers, each of which makes a
 * directory with a task file in it, gives both to the task's user, opens two pipes, confines the command with the launcher's own
 * steps, hears it to the end, waits for it, and removes the directory. One after the other; nothing is kept or told, no process
 * lies in between, and what a command leaves behind is nobody's.
 *
 *   equal COUNT --work=DIRECTORY [--room=BYTES] [--join0=FILE] [--join1=FILE] [--OPTION[=VALUE]...] -- COMMAND [ARGUMENT...]
 *
 * Options as the launcher's: --uid, --data, --fsize, --nproc, --nofile, --show, --read, --write, --directory, --files,
 * --powerless, --calls. Tasks' directories lie in DIRECTORY, those of each worker in one that is mounted in memory where there
 * is a ROOM, as a node uses its mounts again; --join0 and --join1 are the cgroup.procs that commands of the first and of the
 * second worker write themselves to.
 */
#define _GNU_SOURCE
#include "confine.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 2, NAME_MAX_BYTES = 256 };

static const char ARGUMENTS[] = "{}";

static struct wish wish;
static const char *work, *room;
static const char *joins[WORKERS][4];
static size_t join_counts[WORKERS];
static char **command;

/* ---- what is asked for */

static const char *value_of(const char *word, const char *name)
{
    size_t length = strlen(name);
    return strncmp(word, name, length) == 0 ? word + length : NULL;
}

static void add_path(enum path_use use, const char *name)
{
    if (wish.path_count < PATHS_MAX)
        wish.paths[wish.path_count++] = (struct path){.name = name, .use = use};
}

static bool take(const char *word)
{
    const struct {
        const char *name;
        const char **where;
    } values[] = {
        {"--work=", &work},      {"--room=", &room},           {"--uid=", &wish.uid},       {"--data=", &wish.data},
        {"--nproc=", &wish.nproc}, {"--nofile=", &wish.nofile}, {"--fsize=", &wish.fsize}, {"--directory=", &wish.directory},
    };
    const struct {
        const char *name;
        enum path_use use;
    } paths[] = {{"--read=", PATH_READ}, {"--write=", PATH_WRITE}, {"--show=", PATH_SHOW}};
    const struct {
        const char *name;
        bool *where;
    } flags[] = {{"--files", &wish.files}, {"--powerless", &wish.powerless}, {"--calls", &wish.calls}};
    const char *value;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        if ((value = value_of(word, values[i].name)) != NULL)
            return (*values[i].where = value) != NULL;
    }
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if ((value = value_of(word, paths[i].name)) != NULL) {
            add_path(paths[i].use, value);
            return true;
        }
    }
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(word, flags[i].name) == 0)
            return *flags[i].where = true;
    }
    for (int worker = 0; worker < WORKERS; worker++) {
        char name[] = {'-', '-', 'j', 'o', 'i', 'n', (char)('0' + worker), '=', '\0'};
        if ((value = value_of(word, name)) != NULL && join_counts[worker] < 4) {
            joins[worker][join_counts[worker]++] = value;
            return true;
        }
    }
    return false;
}

/* ---- one task */

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

/* Between vfork and exec, in the order of the launcher. Returns when it could not exec. */
static void enter(int out, int error)
{
    int ruleset = -1;
    umask(022);
    if (setsid() < 0 || !join_groups(&wish))
        return;
    if (!limit(RLIMIT_DATA, wish.data, true) || !limit(RLIMIT_NOFILE, wish.nofile, false) || !limit(RLIMIT_FSIZE, wish.fsize, true) ||
        !limit(RLIMIT_NPROC, wish.nproc, true) || !limit(RLIMIT_CORE, "0", true))
        return;
    if (!show_paths(&wish) || (wish.files && (ruleset = make_ruleset(&wish)) < 0))
        return;
    if (wish.powerless && geteuid() == 0 && !drop_bounding_set())
        return;
    if ((wish.uid != NULL && !become(wish.uid)) || (wish.powerless && !drop_capabilities()))
        return;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return;
    if ((wish.files && !restrict_files(ruleset)) || (wish.directory != NULL && chdir(wish.directory) != 0))
        return;
    if (dup2(out, STDOUT_FILENO) < 0 || dup2(error, STDERR_FILENO) < 0 || (wish.calls && !restrict_calls()))
        return;
    execv(command[0], command);
}

static void hear(int fd)
{
    char printed[4096];
    while (read(fd, printed, sizeof printed) > 0) {
    }
    close(fd);
}

static bool start_and_hear(void)
{
    int out[2], error[2], status = 0;
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(error, O_CLOEXEC) != 0)
        return false;
    pid_t pid = vfork();
    if (pid == 0) {
        enter(out[1], error[1]);
        _exit(127);
    }
    close(out[1]);
    close(error[1]);
    hear(out[0]);
    hear(error[0]);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static bool make_directory(const char *folder, const char *file)
{
    if (mkdir(folder, 0700) != 0)
        return false;
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool done = fd >= 0 && write(fd, ARGUMENTS, sizeof ARGUMENTS - 1) == sizeof ARGUMENTS - 1;
    close(fd);
    if (wish.uid == NULL)
        return done;
    uid_t user = (uid_t)strtoul(wish.uid, NULL, 10);
    return done && chown(file, user, user) == 0 && chown(folder, user, user) == 0;
}

static bool remove_directory(const char *folder, const char *file)
{
    return unlink(file) == 0 && rmdir(folder) == 0;
}

static bool run(const char *folder)
{
    char file[NAME_MAX_BYTES + 32];
    snprintf(file, sizeof file, "%s/task.json", folder);
    /* both: what could not be started still has a directory */
    return (int)(make_directory(folder, file) && start_and_hear()) & (int)remove_directory(folder, file);
}

/* ---- the workers */

/* Where the directories of a worker's tasks lie: what they are granted. */
static bool make_place(const char *place)
{
    char size[64];
    if (mkdir(place, 0711) != 0)
        return false;
    snprintf(size, sizeof size, "mode=0711,size=%s", room == NULL ? "" : room);
    return room == NULL || mount("bench", place, "tmpfs", MS_NOSUID | MS_NODEV, size) == 0;
}

static int work_off(int worker, int count)
{
    static char place[NAME_MAX_BYTES], user[16];
    char folder[NAME_MAX_BYTES + 16];
    snprintf(place, sizeof place, "%s/%d", work, worker);
    if (!make_place(place))
        return 1;
    for (size_t i = 0; i < join_counts[worker]; i++)
        add_path(PATH_JOIN, joins[worker][i]);
    add_path(PATH_WRITE, place);
    if (wish.uid != NULL) {
        snprintf(user, sizeof user, "%lu", strtoul(wish.uid, NULL, 10) + (unsigned long)worker);
        wish.uid = user;
    }
    for (; count > 0; count--) {
        snprintf(folder, sizeof folder, "%s/%d", place, count);
        if (!run(folder))
            return 1;
    }
    return room != NULL && umount2(place, MNT_DETACH | UMOUNT_NOFOLLOW) != 0;
}

int main(int argc, char **argv)
{
    int failed = 0, status = 0, word = 2, count = argc > 1 ? atoi(argv[1]) : 0;
    for (; word < argc && strcmp(argv[word], "--") != 0; word++) {
        if (!take(argv[word])) {
            fprintf(stderr, "equal: no such option: %s\n", argv[word]);
            return 2;
        }
    }
    if (count <= 0 || work == NULL || word + 1 >= argc)
        return 2;
    command = argv + word + 1;
    /* its mounts are nobody else's, as a node's */
    if (room != NULL && (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) != 0))
        return 1;
    for (int worker = 0; worker < WORKERS; worker++) {
        if (fork() == 0)
            _exit(work_off(worker, (count + worker) / WORKERS));
    }
    while (wait(&status) > 0)
        failed |= status;
    return failed != 0;
}
