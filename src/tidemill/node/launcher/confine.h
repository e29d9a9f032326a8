/*
 * What the command of one attempt is confined to, and each of the steps that confine it. launcher.c says in which order they
 * are taken and what the options mean; probe.c tries them one by one.
 *
 * Every step returns true, or false with errno set: then it is not done, and the command must not be started.
 */
#ifndef TIDEMILL_CONFINE_H
#define TIDEMILL_CONFINE_H

#include <stdbool.h>
#include <stddef.h>

enum { PATHS_MAX = 128 };

enum path_use { PATH_JOIN, PATH_READ, PATH_WRITE, PATH_SHOW, PATH_VOLUME };

struct path {
    const char *name;
    enum path_use use;
};

/* What was asked for; a string that is NULL was not. */
struct wish {
    const char *directory;
    const char *data;
    const char *nofile;
    const char *fsize;
    const char *nproc;
    const char *uid;
    const char *listen;
    bool no_network;
    const char *environment;
    bool within;
    bool volumes;
    bool powerless;
    bool files;
    bool keep_ruleset;
    const char *ruleset;
    bool calls;
    bool apart;
    bool alone;
    struct path paths[PATHS_MAX];
    size_t path_count;
    char **command;
};

/* Leaves the machine's network for one with nothing but a loopback; in a user namespace where that is needed for it, which
   also knows `uid` (NULL: nobody else). */
bool leave_network(const char *uid);

/* Leaves the namespaces of `flags` for new ones, in a user namespace in which we are still who we are, and know `uid` (NULL:
   nobody else). What is new is then ours to change, and nothing else is. */
bool unshare_with_users(int flags, const char *uid);

/* A socket that listens at 127.0.0.1:`port`, or -1. */
int listen_at(const char *port);

/* Sends `line` and the descriptor `fd` over the socket `control`. */
bool send_descriptor(int control, const char *line, int fd);

/* Goes into every group of the wish (PATH_JOIN), with all that will be started. */
bool join_groups(const struct wish *wish);

/* The version of Landlock that the kernel has and lets us use; 0 when it has none. */
int landlock_version(void);

/* Opens files.c's ruleset for the paths of the wish, before the identity changes. The descriptor, or -1. */
int make_ruleset(const struct wish *wish);

/* From here on only what the ruleset names can be opened, and only processes of our own can be signalled or traced. */
bool restrict_files(int ruleset);

/* Makes every PATH_SHOW path reachable for any user, in a mount namespace of our own if one of them is not. */
bool show_paths(const struct wish *wish);

/* Whether we may have mounts of our own; in a user namespace where that is needed for it, which also knows `uid`. */
bool may_mount(const char *uid);

/* Mounts every volume of the wish (PATH_VOLUME), for nobody but us and those that come of us. */
bool mount_volumes(const struct wish *wish);

/* Takes every capability out of the bounding set, so that no program can give one back. */
bool drop_bounding_set(void);

/* Gives up the capabilities that are left, those of root included. */
bool drop_capabilities(void);

/* Becomes user `uid`, and the group of the same number, with no other group. */
bool become(const char *uid);

/* From here on the calls in calls.c fail. Needs no_new_privs. */
bool restrict_calls(void);

/* From here on the calls fail that change other processes of the same user. Needs no_new_privs. */
bool leave_others_alone(void);

/* Prints a line a protection: "NAME VERSION" or "NAME missing ERRNO". `uid`: who to become, NULL: nobody else. */
int probe(const char *uid);

#endif
