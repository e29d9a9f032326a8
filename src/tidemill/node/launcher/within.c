/*
 * The environment of a command may hold what changes programs (LD_PRELOAD), and secrets. It is kept from the program that
 * makes the place, and from its arguments, which others can read: it goes through a file in memory, from launcher to launcher.
 */
#define _GNU_SOURCE
#include "within.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* what is handed over lies above where it is put */
enum { LOWEST = 16 };

extern char **environ;

static int above(int fd)
{
    if (fd < 0)
        return -1;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, LOWEST);
    close(fd);
    return high;
}

static bool write_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t written = write(fd, data, length);
        if (written < 0)
            return false;
        data += written;
        length -= (size_t)written;
    }
    return true;
}

static int environment_file(void)
{
    int fd = above(memfd_create("environment", MFD_CLOEXEC));
    for (char **word = environ; fd >= 0 && *word != NULL; word++) {
        if (!write_all(fd, *word, strlen(*word) + 1)) {
            close(fd);
            return -1;
        }
    }
    return fd;
}

bool open_within(struct within *within)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return false;
    within->control = above(ends[0]);
    within->theirs = above(ends[1]);
    within->environment = environment_file();
    return within->control >= 0 && within->theirs >= 0 && within->environment >= 0;
}

bool hand_over(const struct within *within)
{
    return dup2(within->theirs, WITHIN_CONTROL) >= 0 && dup2(within->environment, WITHIN_ENVIRONMENT) >= 0;
}

void close_theirs(struct within *within)
{
    close(within->theirs);
    close(within->environment);
}

/* One line, whole. True when it is the first that says "started". */
static bool take_line(struct within *within)
{
    if (strncmp(within->line, "started ", 8) != 0) {
        strcpy(within->fact, within->line);
        return false;
    }
    bool news = !within->started;
    within->started = true;
    return news;
}

bool hear(struct within *within)
{
    bool started = false;
    char byte;
    /* lines are short, and there are two of them */
    while (within->control >= 0) {
        ssize_t length = recv(within->control, &byte, 1, MSG_DONTWAIT);
        if (length < 0)
            return started;
        if (length == 0) {
            /* the last that had it open is gone; a poll would find nothing else any more */
            close(within->control);
            within->control = -1;
            return started;
        }
        if (within->length + 2 > sizeof within->line)
            within->length = 0;
        within->line[within->length++] = byte;
        if (byte == '\n') {
            within->line[within->length] = '\0';
            within->length = 0;
            started = take_line(within) || started;
        }
    }
    return started;
}

void pass_on(const struct within *within, char byte)
{
    /* one that is gone needs no orders */
    ssize_t sent = send(within->control, &byte, 1, MSG_NOSIGNAL);
    (void)sent;
}

bool take_environment(const char *fd)
{
    struct stat found;
    int file = atoi(fd);
    if (fstat(file, &found) != 0)
        return false;
    size_t size = (size_t)found.st_size, count = 0;
    char *text = malloc(size + 1);
    if (text == NULL || pread(file, text, size, 0) != (ssize_t)size)
        return false;
    text[size] = '\0';
    close(file);
    for (size_t i = 0; i < size; i++)
        count += text[i] == '\0';
    char **words = calloc(count + 1, sizeof *words);
    if (words == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        words[i] = text;
        text += strlen(text) + 1;
    }
    environ = words;
    return true;
}
