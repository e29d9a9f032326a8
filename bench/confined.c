/*
 * The floor for bench.confinement: one C program that starts COUNT commands one after the other, confines each with the
 * launcher's own steps, and waits. No process in between, no interpreter, nothing owned or told.
 *
 *   confined COUNT [--OPTION[=VALUE]...] -- COMMAND...      options as the launcher's: --join, --show, --read, --write, --uid
 */
#define _GNU_SOURCE
#include "confine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct wish wish;

static void take(const char *word)
{
    struct path path = {.name = strchr(word, '=') == NULL ? "" : strchr(word, '=') + 1, .use = PATH_READ};
    if (strncmp(word, "--uid=", 6) == 0)
        wish.uid = word + 6;
    if (strncmp(word, "--write=", 8) == 0)
        path.use = PATH_WRITE;
    if (strncmp(word, "--join=", 7) == 0)
        path.use = PATH_JOIN;
    if (strncmp(word, "--show=", 7) == 0)
        path.use = PATH_SHOW;
    if ((path.use != PATH_READ || strncmp(word, "--read=", 7) == 0) && wish.path_count < PATHS_MAX)
        wish.paths[wish.path_count++] = path;
}

static void enter(char **command)
{
    const struct rlimit none = {0, 0};
    int ruleset;
    if (setsid() < 0 || !join_groups(&wish) || setrlimit(RLIMIT_CORE, &none) != 0 || !show_paths(&wish) || (ruleset = make_ruleset(&wish)) < 0)
        return;
    if (geteuid() == 0 && !drop_bounding_set())
        return;
    if ((wish.uid != NULL && !become(wish.uid)) || !drop_capabilities() || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return;
    if (restrict_files(ruleset) && restrict_calls())
        execv(command[0], command);
}

static bool run(char **command)
{
    int status = 0;
    pid_t pid = vfork();
    if (pid == 0) {
        enter(command);
        _exit(127);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

int main(int argc, char **argv)
{
    int word = 2;
    for (; word < argc && strcmp(argv[word], "--") != 0; word++)
        take(argv[word]);
    for (int left = argc > 1 ? atoi(argv[1]) : 0; left > 0; left--) {
        if (word + 1 >= argc || !run(argv + word + 1))
            return 1;
    }
    return 0;
}
