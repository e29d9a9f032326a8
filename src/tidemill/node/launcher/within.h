/*
 * A launcher inside of what the command makes: COMMAND sets up a place of its own (bubblewrap) and starts a second launcher in
 * it, which starts the command proper there. The two speak as a launcher speaks to a node.
 */
#ifndef TIDEMILL_WITHIN_H
#define TIDEMILL_WITHIN_H

#include <stdbool.h>
#include <stddef.h>

/* what COMMAND is given as 3 and 4, and has to leave to the launcher that it starts */
enum { WITHIN_CONTROL = 3, WITHIN_ENVIRONMENT = 4, FACT_MAX = 128 };

/* The outer side. `fact` is the last word of the inner one, a line; empty while it has said no more than "started". */
struct within {
    int control;
    int theirs;
    int environment;
    bool started;
    char fact[FACT_MAX];
    char line[FACT_MAX];
    size_t length;
};

/* Makes the descriptors, all of them closed by exec. False with errno when that failed. */
bool open_within(struct within *within);

/* Between fork and exec: puts the descriptors where the inner launcher finds them. */
bool hand_over(const struct within *within);

/* Closes what only the command needs. */
void close_theirs(struct within *within);

/* Takes in what has been said. True when "started" is among it, for the first time. */
bool hear(struct within *within);

/* Passes on an order of the node. */
void pass_on(const struct within *within, char byte);

/* The inner side: makes what was handed over in descriptor `fd` the environment. */
bool take_environment(const char *fd);

#endif
