/*
 * What this machine lets the launcher do, found by doing it: each protection in a child of its own, with a deadline.
 */
#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEADLINE_S = 5 };

static const char *other;

static bool without_privileges(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

static bool files_work(void)
{
    static const struct wish nothing;
    int ruleset = make_ruleset(&nothing);
    if (ruleset < 0 || !without_privileges() || !restrict_files(ruleset))
        return false;
    if (access("/", X_OK) != 0)
        return false;
    /* what no rule names must be refused, or the kernel took the rules and does not follow them */
    FILE *refused = fopen("/proc/self/stat", "r");
    if (refused == NULL && errno == EACCES)
        return true;
    errno = ENOTSUP;
    return false;
}

static bool calls_work(void)
{
    if (!without_privileges() || !restrict_calls())
        return false;
    if (unshare(0) == -1 && errno == EPERM && socket(AF_PACKET, SOCK_RAW, 0) == -1 && errno == EAFNOSUPPORT &&
        socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) == -1 && errno == EPERM && socket(AF_INET, SOCK_STREAM, 0) >= 0)
        return true;
    errno = ENOTSUP;
    return false;
}

static bool capabilities_work(void)
{
    return (geteuid() != 0 || drop_bounding_set()) && drop_capabilities();
}

static bool uid_works(void)
{
    if (other == NULL) {
        errno = EPERM;
        return false;
    }
    return become(other);
}

static bool view_works(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tidemill", "/proc", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64k") == 0;
}

/* Nothing is sent: to connect a datagram socket is to look for a way. */
static bool network_works(void)
{
    struct sockaddr_in outside = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0xc0000201)};
    if (!leave_network(other))
        return false;
    int listener = listen_at("0"), fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (listener < 0 || fd < 0)
        return false;
    if (connect(fd, (struct sockaddr *)&outside, sizeof outside) == -1 && errno == ENETUNREACH)
        return true;
    errno = ENOTSUP;
    return false;
}

static bool volumes_work(void)
{
    struct wish wish = {.uid = other, .path_count = 1, .paths = {{.use = PATH_VOLUME}}};
    struct statvfs room;
    /* nowhere, and so the way that takes the most */
    wish.paths[0].name = "1048576:rw:/tidemill-probe/volume";
    if (!may_mount(other) || !mount_volumes(&wish) || statvfs("/tidemill-probe/volume", &room) != 0)
        return false;
    if (room.f_blocks * room.f_frsize == 1048576 && access("/proc/self/stat", R_OK) == 0)
        return true;
    errno = ENOTSUP;
    return false;
}

/* Zero, or the errno that `work` failed with in a child. */
static int attempt(bool (*work)(void))
{
    int status = 0;
    pid_t pid = fork();
    if (pid < 0)
        return errno;
    if (pid == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(DEADLINE_S);
        _exit(work() ? 0 : errno == 0 ? EIO : errno);
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return errno;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : ETIMEDOUT;
}

static void say(const char *name, int version, bool (*work)(void))
{
    int error = attempt(work);
    if (error == 0)
        printf("%s %d\n", name, version);
    else
        printf("%s missing %d\n", name, error);
}

int probe(const char *uid)
{
    other = uid;
    say("privileges", 1, without_privileges);
    say("capabilities", 1, capabilities_work);
    say("uid", 1, uid_works);
    say("files", landlock_version(), files_work);
    say("calls", 1, calls_work);
    say("view", 1, view_works);
    say("network", 1, network_works);
    say("volumes", 1, volumes_work);
    return fflush(stdout) == 0 ? 0 : 1;
}
