/*
 * Volumes: directories of a command's own, of a size that it cannot pass, in memory, and gone with the last of its processes.
 *
 * They are mounted where they were asked for, in a mount namespace that nobody else is in. Where there is no such directory, one
 * is made without a trace on the machine: the directory above it is covered by one that shows all that is in it, and the new
 * one besides.
 */
#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRIES_MAX = 512, NAMES_BYTES = 32768, DIRENT_LENGTH = 16, DIRENT_NAME = 19, PAGE_BYTES = 4096, FILES_MIN = 1024 };

/* the same on every architecture; Linux 5.2 */
enum { CALL_OPEN_TREE = 428, CALL_MOVE_MOUNT = 429 };
enum { CLONE_TREE = 1, WITH_ALL_BELOW = 0x8000, FROM_DESCRIPTOR = 4 };

/* `fd` is a copy of what is mounted there, with all below it, that is mounted nowhere yet; of a link it is the link. */
struct entry {
    const char *name;
    int fd;
    mode_t mode;
};

/* What is in a directory; names lie in `text`. */
struct listing {
    struct entry entries[ENTRIES_MAX];
    size_t count;
    char text[NAMES_BYTES];
};

static struct listing found;

static bool is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static bool take_entry(int directory, const char *name)
{
    struct stat status;
    if (found.count == ENTRIES_MAX) {
        errno = E2BIG;
        return false;
    }
    int fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0)
        return false;
    struct entry *entry = &found.entries[found.count++];
    *entry = (struct entry){.name = name, .fd = fd, .mode = status.st_mode};
    if (!S_ISLNK(status.st_mode)) {
        /* now, for a copy that is made later would have what covers the entry by then */
        entry->fd = (int)syscall(CALL_OPEN_TREE, fd, "", CLONE_TREE | O_CLOEXEC | WITH_ALL_BELOW | AT_EMPTY_PATH);
        close(fd);
    }
    return entry->fd >= 0;
}

/* Takes every entry of `directory`, before anything covers it. */
static bool list(const char *directory)
{
    size_t used = 0;
    long length = 0;
    found.count = 0;
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    /* not readdir, which allocates: between vfork and exec the memory is not ours */
    while ((length = syscall(SYS_getdents64, fd, found.text + used, sizeof found.text - used)) > 0) {
        for (char *at = found.text + used, *end = at + length; at < end;) {
            uint16_t size;
            const char *name = at + DIRENT_NAME;
            memcpy(&size, at + DIRENT_LENGTH, sizeof size);
            at += size;
            if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !take_entry(fd, name))
                return false;
        }
        used += (size_t)length;
    }
    /* one buffer holds the names: more of them than fit into it is too many */
    if (length < 0 && errno == EINVAL)
        errno = E2BIG;
    close(fd);
    return length == 0;
}

/* Shows an entry again as PATH. */
static bool show_entry(const struct entry *entry, const char *path)
{
    if (S_ISLNK(entry->mode)) {
        char target[PATH_MAX];
        ssize_t length = readlinkat(entry->fd, "", target, sizeof target - 1);
        if (length < 0)
            return false;
        target[length] = '\0';
        return symlink(target, path) == 0;
    }
    if ((S_ISDIR(entry->mode) ? mkdir(path, 0755) : mknod(path, S_IFREG | 0644, 0)) != 0)
        return false;
    return syscall(CALL_MOVE_MOUNT, entry->fd, "", AT_FDCWD, path, FROM_DESCRIPTOR) == 0;
}

/* Covers `cover` by a directory that shows what was listed. */
static bool show_listing(const char *cover)
{
    if (mount("tidemill", cover, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m") != 0)
        return false;
    for (size_t i = 0; i < found.count; i++) {
        char path[PATH_MAX];
        int length = snprintf(path, sizeof path, "%s/%s", cover, found.entries[i].name);
        if (length >= (int)sizeof path) {
            errno = ENAMETOOLONG;
            return false;
        }
        if (!show_entry(&found.entries[i], path))
            return false;
        close(found.entries[i].fd);
    }
    return true;
}

/* A new root, with all that the old one has: nothing can be mounted over the root itself. */
static bool renew_root(void)
{
    char stage[PATH_MAX] = "";
    for (size_t i = 0; i < found.count && stage[0] == '\0'; i++) {
        if (S_ISDIR(found.entries[i].mode))
            snprintf(stage, sizeof stage, "/%s", found.entries[i].name);
    }
    return show_listing(stage) && chdir(stage) == 0 && syscall(SYS_pivot_root, ".", ".") == 0 &&
           umount2(".", MNT_DETACH) == 0 && chdir("/") == 0;
}

/* Makes PATH a directory, for us alone. */
static bool make_directory(const char *path)
{
    char above[PATH_MAX];
    if (access(path, F_OK) == 0 || strlen(path) >= sizeof above) {
        errno = is_directory(path) ? 0 : ENOTDIR;
        return errno == 0;
    }
    strcpy(above, path);
    do
        *strrchr(above, '/') = '\0';
    while (above[0] != '\0' && access(above, F_OK) != 0);
    if (above[0] == '\0' ? !list("/") || !renew_root() : !list(above) || !show_listing(above))
        return false;
    for (size_t end = strlen(above) + 1; end <= strlen(path); end++) {
        if (path[end] != '/' && path[end] != '\0')
            continue;
        memcpy(above, path, end);
        above[end] = '\0';
        if (mkdir(above, 0755) != 0)
            return false;
    }
    return true;
}

/* VOLUME is BYTES:rw:PATH or BYTES:ro:PATH. */
static bool mount_volume(const char *volume, const char *uid)
{
    char options[160], user[16];
    char *rest = NULL;
    unsigned long long bytes = strtoull(volume, &rest, 10);
    bool read_only = strncmp(rest, ":ro:/", 5) == 0;
    const char *path = rest + 4;
    if (bytes == 0 || (!read_only && strncmp(rest, ":rw:/", 5) != 0)) {
        errno = EINVAL;
        return false;
    }
    snprintf(user, sizeof user, "%u", (unsigned int)geteuid());
    if (uid == NULL)
        uid = user;
    /* a file takes memory though nothing is in it: as many as there are pages, and some */
    snprintf(options, sizeof options, "mode=0755,size=%llu,nr_inodes=%llu,uid=%s,gid=%s", bytes,
             bytes / PAGE_BYTES + FILES_MIN, uid, uid);
    return make_directory(path) &&
           mount("tidemill", path, "tmpfs", MS_NOSUID | MS_NODEV | (read_only ? MS_RDONLY : 0), options) == 0;
}

bool may_mount(const char *uid)
{
    return unshare(CLONE_NEWNS) == 0 || (errno == EPERM && unshare_with_users(CLONE_NEWNS, uid));
}

bool mount_volumes(const struct wish *wish)
{
    bool mine = false;
    for (size_t i = 0; i < wish->path_count; i++) {
        if (wish->paths[i].use != PATH_VOLUME)
            continue;
        mine = mine || (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
        if (!mine || !mount_volume(wish->paths[i].name, wish->uid))
            return false;
    }
    return true;
}
