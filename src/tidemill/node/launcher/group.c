/*
 * Groups: the cgroups that a command is in, made by the node, which set their limits.
 */
#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static bool join_group(const char *processes)
{
    int fd = open(processes, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    /* 0 is whoever writes it */
    bool joined = write(fd, "0", 1) == 1;
    int error = errno;
    close(fd);
    errno = error;
    return joined;
}

bool join_groups(const struct wish *wish)
{
    for (size_t i = 0; i < wish->path_count; i++) {
        if (wish->paths[i].use == PATH_JOIN && !join_group(wish->paths[i].name))
            return false;
    }
    return true;
}
