/*
 * Network: a namespace in which there is nothing but the command's own loopback, and a listener there for the node.
 */
#define _GNU_SOURCE
#include "confine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BACKLOG = 64 };

static bool put(pid_t pid, const char *file, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int error = errno;
    close(fd);
    errno = error;
    return written;
}

/* Has process `pid` keep its own number, and may it become `uid`, that one too, in its new user namespace. */
static bool map_users(pid_t pid, const char *uid)
{
    char users[96], groups[96];
    unsigned int user = geteuid(), group = getegid();
    if (uid != NULL && strtoul(uid, NULL, 10) != user) {
        snprintf(users, sizeof users, "%u %u 1\n%s %s 1\n", user, user, uid, uid);
        snprintf(groups, sizeof groups, "%u %u 1\n%s %s 1\n", group, group, uid, uid);
    } else {
        /* no privilege is needed for one's own number, once groups can no longer be given up */
        snprintf(users, sizeof users, "%u %u 1\n", user, user);
        snprintf(groups, sizeof groups, "%u %u 1\n", group, group);
        if (!put(pid, "setgroups", "deny"))
            return false;
    }
    return put(pid, "uid_map", users) && put(pid, "gid_map", groups);
}

/* From outside, where one may still do it, a child says who is who in the namespace that its parent has made. */
bool unshare_with_users(int flags, const char *uid)
{
    int ready[2], status = 0;
    char byte = 0;
    pid_t self = getpid();
    if (pipe2(ready, O_CLOEXEC) != 0)
        return false;
    pid_t child = fork();
    if (child == 0) {
        close(ready[1]);
        /* nothing to read: the parent could not make its namespace */
        _exit(read(ready[0], &byte, 1) != 1 || map_users(self, uid) ? 0 : errno);
    }
    close(ready[0]);
    bool done = child > 0 && unshare(CLONE_NEWUSER | flags) == 0 && write(ready[1], "", 1) == 1;
    int error = errno;
    close(ready[1]);
    if (child > 0 && waitpid(child, &status, 0) == child && done && status != 0) {
        done = false;
        error = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    }
    errno = error;
    return done;
}

static bool bring_loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool done = ioctl(fd, SIOCGIFFLAGS, &request) == 0;
    request.ifr_flags |= IFF_UP;
    done = done && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    int error = errno;
    close(fd);
    errno = error;
    return done;
}

bool leave_network(const char *uid)
{
    if (unshare(CLONE_NEWNET) != 0 && (errno != EPERM || !unshare_with_users(CLONE_NEWNET, uid)))
        return false;
    return bring_loopback_up();
}

int listen_at(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

bool send_descriptor(int control, const char *line, int fd)
{
    struct iovec text = {.iov_base = (void *)line, .iov_len = strlen(line)};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof fd)];
    } rights = {.header = {.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct msghdr message = {
        .msg_iov = &text, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights.space};
    memcpy(CMSG_DATA(&rights.header), &fd, sizeof fd);
    return sendmsg(control, &message, MSG_NOSIGNAL) == (ssize_t)text.iov_len;
}
