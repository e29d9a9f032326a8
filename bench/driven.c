/*
 * The other floor for bench.confinement: one C program that starts COUNT launchers one after the other, each with its command,
 * and hears each to the end, as the node does. What the node's own program costs is what it costs more.
 *
 *   driven COUNT LAUNCHER [--OPTION[=VALUE]...] -- COMMAND...
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whether the last line that the launcher said before it left tells of an end. */
static bool hear(int control)
{
    char said[512] = "";
    size_t length = 0;
    ssize_t got;
    while (length < sizeof said - 1 && (got = recv(control, said + length, sizeof said - 1 - length, 0)) > 0)
        length += (size_t)got;
    return strstr(said, "\nended exit 0 ") != NULL;
}

static bool run(char **words)
{
    int ends[2], status = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return false;
    pid_t pid = vfork();
    if (pid == 0) {
        dup2(ends[1], 3);
        execv(words[0], words);
        _exit(127);
    }
    close(ends[1]);
    bool heard = hear(ends[0]);
    close(ends[0]);
    return pid > 0 && heard && waitpid(pid, &status, 0) == pid && status == 0;
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    /* the launcher's own first argument: where it speaks. Descriptor 3 is nothing else, whoever started us. */
    char **words = calloc((size_t)argc + 1, sizeof *words);
    if (words == NULL || fcntl(0, F_DUPFD, 8) < 0)
        return 1;
    words[0] = argv[2];
    words[1] = "3";
    memcpy(words + 2, argv + 3, (size_t)(argc - 3) * sizeof *words);
    for (int left = atoi(argv[1]); left > 0; left--) {
        if (!run(words))
            return 1;
    }
    return 0;
}
