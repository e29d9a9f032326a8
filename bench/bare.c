/*
 * The least that starting commands takes on this machine: two workers, each with posix_spawn, a pipe and a wait for each of its
 * commands, one after the other. Nothing is confined, kept or told.
 *
 *   bare COUNT COMMAND [ARGUMENT...]
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 2 };

extern char **environ;

static bool run(char **command)
{
    int ends[2], status = 0;
    char printed[4096];
    pid_t pid;
    posix_spawn_file_actions_t actions;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    int error = posix_spawn(&pid, command[0], &actions, NULL, command, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    while (read(ends[0], printed, sizeof printed) > 0) {
    }
    close(ends[0]);
    return error == 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static int work(int count, char **command)
{
    for (; count > 0; count--) {
        if (!run(command))
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    int failed = 0, status = 0, count = argc > 2 ? atoi(argv[1]) : 0;
    for (int worker = 0; worker < WORKERS; worker++) {
        if (fork() == 0)
            _exit(work((count + worker) / WORKERS, argv + 2));
    }
    while (wait(&status) > 0)
        failed |= status;
    return failed != 0 || count == 0;
}
