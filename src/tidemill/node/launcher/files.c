/*
 * Files: what a command may open (Landlock), and what it can reach (a view of its own, where modes would be in the way).
 *
 * Landlock is used by its system calls: its header is missing where its kernel may not be. A kernel that knows less than we do
 * is asked for what it knows; what that leaves out stands in docs/isolation.md.
 */
#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* the same on every architecture */
enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446 };
enum { RULE_PATH_BENEATH = 1, ASK_FOR_VERSION = 1 };

#define EXECUTE (1ULL << 0)
#define WRITE_FILE (1ULL << 1)
#define READ_FILE (1ULL << 2)
#define READ_DIR (1ULL << 3)
#define MAKE_CHAR (1ULL << 6)
#define MAKE_BLOCK (1ULL << 11)
#define REFER (1ULL << 13)
#define TRUNCATE (1ULL << 14)
#define IOCTL_DEV (1ULL << 15)
#define SCOPE_ABSTRACT_SOCKETS (1ULL << 0)
#define SCOPE_SIGNALS (1ULL << 1)

#define READING (EXECUTE | READ_FILE | READ_DIR)
/* the rights that a rule for something else than a directory may name */
#define OF_FILES (EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV)

struct ruleset {
    uint64_t files;
    uint64_t network;
    uint64_t scoped;
};

struct path_beneath {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

/* ---- Landlock */

int landlock_version(void)
{
    long version = syscall(CREATE_RULESET, NULL, 0, ASK_FOR_VERSION);
    return version < 0 ? 0 : (int)version;
}

/* Every right over files that a kernel of this version can keep back. */
static uint64_t all_rights(int version)
{
    uint64_t rights = REFER - 1;
    if (version >= 2)
        rights |= REFER;
    if (version >= 3)
        rights |= TRUNCATE;
    if (version >= 5)
        rights |= IOCTL_DEV;
    return rights;
}

static bool allow(int ruleset, const struct path *path, uint64_t handled)
{
    struct path_beneath rule = {.allowed = path->use == PATH_WRITE ? handled & ~(MAKE_CHAR | MAKE_BLOCK) : READING};
    struct stat found;
    rule.parent = open(path->name, O_PATH | O_CLOEXEC);
    if (rule.parent < 0)
        /* nothing to read is not less confined than something to read */
        return path->use == PATH_READ && (errno == ENOENT || errno == ENOTDIR);
    bool done = fstat(rule.parent, &found) == 0;
    if (done && !S_ISDIR(found.st_mode))
        rule.allowed &= OF_FILES;
    done = done && syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0) == 0;
    int error = errno;
    close(rule.parent);
    errno = error;
    return done;
}

int make_ruleset(const struct wish *wish)
{
    int version = landlock_version();
    struct ruleset wanted = {.files = all_rights(version)};
    size_t size = sizeof wanted;
    if (version >= 6)
        wanted.scoped = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS;
    else
        /* older kernels refuse what they do not know, be it 0 */
        size = version >= 4 ? offsetof(struct ruleset, scoped) : offsetof(struct ruleset, network);
    int ruleset = (int)syscall(CREATE_RULESET, &wanted, size, 0);
    for (size_t i = 0; ruleset >= 0 && i < wish->path_count; i++) {
        if ((wish->paths[i].use == PATH_READ || wish->paths[i].use == PATH_WRITE) &&
            !allow(ruleset, &wish->paths[i], wanted.files)) {
            int error = errno;
            close(ruleset);
            errno = error;
            return -1;
        }
    }
    return ruleset;
}

bool restrict_files(int ruleset)
{
    return syscall(RESTRICT_SELF, ruleset, 0) == 0;
}

/* ---- a view of our own */

/* Whether any user may pass through the directory. */
static bool is_open(const char *directory)
{
    struct stat found;
    return stat(directory, &found) == 0 && (found.st_mode & S_IXOTH) != 0;
}

/* Calls `visit` with each directory above `path`, from the top, until it returns false; false then. */
static bool each_above(const char *path, bool (*visit)(const char *directory))
{
    char prefix[PATH_MAX];
    if (strlen(path) >= sizeof prefix) {
        errno = ENAMETOOLONG;
        return false;
    }
    strcpy(prefix, path);
    for (char *slash = strchr(prefix + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (!visit(prefix))
            return false;
        *slash = '/';
    }
    return true;
}

/* Covers what is not open with an empty directory that is, and makes what is then missing below. */
static bool make_way(const char *directory)
{
    if (is_open(directory))
        return true;
    if (access(directory, F_OK) != 0)
        return mkdir(directory, 0755) == 0;
    return mount("tidemill", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64k") == 0;
}

static bool show(const char *path, int fd)
{
    char source[64];
    struct stat there, now;
    if (!each_above(path, make_way) || fstat(fd, &there) != 0)
        return false;
    if (stat(path, &now) == 0 && now.st_dev == there.st_dev && now.st_ino == there.st_ino)
        return true;
    int made = S_ISDIR(there.st_mode) ? mkdir(path, 0755) : mknod(path, S_IFREG | 0644, 0);
    if (made != 0 && errno != EEXIST)
        return false;
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    return mount(source, path, NULL, MS_BIND | MS_REC, NULL) == 0;
}

static bool all_reachable(const struct wish *wish)
{
    for (size_t i = 0; i < wish->path_count; i++) {
        if (wish->paths[i].use == PATH_SHOW && !each_above(wish->paths[i].name, is_open))
            return false;
    }
    return true;
}

bool show_paths(const struct wish *wish)
{
    int fds[PATHS_MAX];
    if (all_reachable(wish))
        return true;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return false;
    /* all of them before the first is covered: one may hide another */
    for (size_t i = 0; i < wish->path_count; i++) {
        fds[i] = -1;
        if (wish->paths[i].use == PATH_SHOW && (fds[i] = open(wish->paths[i].name, O_PATH | O_CLOEXEC)) < 0)
            return false;
    }
    for (size_t i = 0; i < wish->path_count; i++) {
        if (fds[i] >= 0 && !show(wish->paths[i].name, fds[i]))
            return false;
    }
    for (size_t i = 0; i < wish->path_count; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    return true;
}
