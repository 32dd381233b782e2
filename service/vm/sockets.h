/* SPDX-License-Identifier: MIT */
#pragma once

/* API sockets, pinned: a path from a caller is walked once, without following any link or mount,
 * and from then on only the inode that was found is used. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/config.h"
#include "base/kernel.h"
#include "base/subuid.h"
#include "common/failure.h"

typedef enum SocketState {
        SOCKET_ABSENT,        /* nothing of that name */
        SOCKET_NOT_LISTENING, /* an inode, but nobody behind it: stale, or before listen(2) */
        SOCKET_BACKLOG_FULL,  /* somebody listens who does not accept; who cannot be told */
        SOCKET_NOT_ASKED,     /* another's, and nobody has connected to it: see socket_look() */
        SOCKET_LISTENING,     /* pid and pidfd say who called listen(2), and he lives */
} SocketState;

typedef struct ApiSocket {
        SocketState state;
        int fd; /* O_PATH, -1 when ABSENT */
        dev_t device;
        ino_t inode;
        uint64_t age_usec;
        bool in_runtime_dir;
        uid_t directory_uid; /* RUNTIME_DIR/UID */
        pid_t pid;
        int pidfd; /* -1 unless LISTENING */
        /* Whose it is, and how sure: with agrees false directory, inode and listener name different
         * uids, owner is the one that differs (UID_NONE: several do), and only manage-others helps. */
        uid_t owner;
        bool agrees;
        /* Not to be used whoever asks (a symlink, a hard link, no socket): kind set, and told only to
         * those who may know. */
        Failure refusal;
} ApiSocket;

#define API_SOCKET_NONE ((ApiSocket){.fd = -1, .pidfd = -1, .owner = UID_NONE})

/* Looks at path now. 0, or a failure that anybody may be told: ACCESS_DENIED outside of every
 * root, KERNEL_REFUSED when out of descriptors. path must have passed socket_path_check(). With
 * for_uid only that user's own sockets are connected to: nobody can load another's VMM with
 * connections by asking about it. UID_NONE: whoever's it is. */
int socket_look(const Config *config, const Features *features, const SubuidMap *subuids,
                const char *path, uid_t for_uid, ApiSocket *ret, Failure *f);
void socket_clear(ApiSocket *socket);

/* Whether path is below one of the roots. */
bool socket_path_has_root(const Config *config, const char *path);

/* One more uid that has to be the owner's. */
void socket_agree(ApiSocket *socket, const SubuidMap *subuids, uid_t uid);

/* 0600 first, then uid's, on the pinned inode. *ret_changed: it was not so before. */
int socket_give(const ApiSocket *socket, const char *path, uid_t uid, bool *ret_changed, Failure *f);

/* The caller's own directory in the runtime directory, made where it is missing. *ret_path is
 * malloc'ed. ACCESS_DENIED where something else stands there. *ret_changed: as above. */
int socket_dir_ensure(const Config *config, uid_t uid, char **ret_path, bool *ret_changed,
                      Failure *f);

/* The deepest directory of path that exists, O_PATH, and the name in it that would have to appear
 * next (malloc'ed), for inotify. */
int socket_nearest(const Config *config, const char *path, int *ret_fd, char **ret_name, Failure *f);
