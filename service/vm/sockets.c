/* SPDX-License-Identifier: MIT */
/* Sockets under the roots: who they belong to and who listens.
 *
 * Everything below RUNTIME_DIR/UID is that user's to rearrange, at any moment, against us. So the
 * walk (openat2) crosses no symlink and no mount, the inode is held by an O_PATH descriptor, and
 * what is done is done through /proc/self/fd/N or AT_EMPTY_PATH. The listener is the process whose
 * credentials the kernel froze at listen(2): SO_PEERPIDFD pins it (Linux 6.5); before, SO_PEERCRED
 * gives a pid that may have been reused, so the process must be older than the socket. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "common/validate.h"
#include "vm/process.h"
#include "vm/sockets.h"

typedef struct Place {
        const char *root;     /* the trusted directory */
        const char *relative; /* what the caller added */
        bool in_runtime_dir;
        uid_t uid;              /* RUNTIME_DIR/UID */
        const char *in_uid_dir; /* behind UID/ */
} Place;

/* The part of path below root, or NULL. */
static const char *below(const char *path, const char *root) {
        size_t n = strlen(root);

        return strncmp(path, root, n) == 0 && path[n] == '/' && path[n + 1] ? path + n + 1 : NULL;
}

static int place_of(const Config *c, const char *path, Place *ret, Failure *f) {
        const char *relative = below(path, c->runtime_dir);
        char number[16];
        uint64_t uid;
        size_t n;

        if (relative) {
                n = strcspn(relative, "/");
                (void)snprintf(number, sizeof(number), "%.*s", (int)MIN_OF(n, sizeof(number)),
                               relative);
                if (n < sizeof(number) && relative[n] == '/' &&
                    number_parse(number, INT32_MAX, &uid)) {
                        *ret = (Place){c->runtime_dir, relative, true, (uid_t)uid, relative + n + 1};
                        return 0;
                }
        }
        for (char **root = c->socket_roots; *root; root++) {
                relative = below(path, *root);
                if (relative) {
                        *ret = (Place){.root = *root, .relative = relative, .uid = UID_NONE};
                        return 0;
                }
        }
        return failure_set(f, FAILURE_ACCESS_DENIED,
                           "%s is neither below %s/UID nor below one of socket_roots; use a socket there",
                           path, c->runtime_dir);
}

bool socket_path_has_root(const Config *config, const char *path) {
        Place place;
        Failure f;

        return place_of(config, path, &place, &f) >= 0;
}

static int open_root(const char *root) {
        int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

static bool is_out_of_resources(int error) {
        return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

void socket_clear(ApiSocket *s) {
        s->fd = close_fd(s->fd);
        s->pidfd = close_fd(s->pidfd);
}

/* Whose what is missing would be: the uid of the nearest directory that exists. */
static uid_t nearest_owner(int root, const char *relative) {
        _cleanup_free_ char *path = strdup(relative);
        struct stat st;

        for (char *slash; path && (slash = strrchr(path, '/'));) {
                _cleanup_close_ int fd = -1;

                *slash = '\0';
                fd = kernel.open_beneath(root, path);
                if (fd >= 0)
                        return fstat(fd, &st) == 0 ? st.st_uid : UID_NONE;
        }
        return path && fstat(root, &st) == 0 ? st.st_uid : UID_NONE;
}

static int refuse(ApiSocket *s, const char *path, const char *why) {
        (void)failure_set(&s->refusal, FAILURE_ACCESS_DENIED, "%s %s; use the VMM's own API socket",
                          path, why);
        return 0;
}

/* Non-blocking: a full backlog is EAGAIN, not a hang. */
static int connect_to(int path_fd) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0)
                return -errno;
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", path_fd);
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* Without SO_PEERPIDFD: the pid may be of a process that came later, but that one cannot be older
 * than a socket on which its predecessor listened. */
static bool is_older_than(pid_t pid, const struct stat *socket) {
        uint64_t started = process_started_realtime(pid);
        uint64_t made = (uint64_t)socket->st_mtim.tv_sec * USEC_PER_SEC +
                        (uint64_t)socket->st_mtim.tv_nsec / 1000;

        return started > 0 && started <= made + 20 * USEC_PER_MSEC; /* starttime has 10 ms steps */
}

static int find_listener(ApiSocket *s, const Features *features, const struct stat *st, Failure *f) {
        _cleanup_close_ int fd = connect_to(s->fd), pidfd = -1;
        struct ucred peer;

        if (fd == -EAGAIN) {
                s->state = SOCKET_BACKLOG_FULL;
                return 0;
        }
        if (is_out_of_resources(fd))
                return failure_kernel(f, fd, NULL, "Connecting to a socket");
        s->state = SOCKET_NOT_LISTENING;
        if (fd < 0 || kernel.peer_credentials(fd, &peer) < 0 || peer.pid <= 0)
                return 0;
        if (features->peer_pidfd)
                pidfd = kernel.peer_pidfd(fd);
        else if (is_older_than(peer.pid, st))
                pidfd = kernel.pidfd_open(peer.pid);
        if (is_out_of_resources(pidfd))
                return failure_kernel(f, pidfd, NULL, "Pinning the process behind a socket");
        /* listen, fork, parent exits: what the kernel remembers is dead. Nobody answers for it. */
        if (pidfd < 0 || process_is_gone(pidfd))
                return 0;
        if (!features->peer_pidfd && !is_older_than(peer.pid, st))
                return 0;
        s->state = SOCKET_LISTENING;
        s->pid = peer.pid;
        s->pidfd = TAKE_FD(pidfd);
        return 0;
}

void socket_agree(ApiSocket *s, const SubuidMap *subuids, uid_t uid) {
        uid_t owner = uid == UID_NONE ? UID_NONE : subuid_owner(subuids, uid);

        if (owner == s->owner)
                return;
        s->owner = s->agrees ? owner : UID_NONE; /* three names: nobody's */
        s->agrees = false;
}

static int look(const Features *features, const SubuidMap *subuids, const Place *place,
                const char *path, uid_t for_uid, ApiSocket *s, Failure *f) {
        _cleanup_close_ int root = open_root(place->root), directory = -1;
        struct stat st;

        s->agrees = true;
        s->in_runtime_dir = place->in_runtime_dir;
        s->directory_uid = place->uid;
        s->owner = place->in_runtime_dir ? subuid_owner(subuids, place->uid) : UID_NONE;
        if (is_out_of_resources(root))
                return failure_kernel(f, root, NULL, "Opening %s", place->root);
        if (root < 0)
                return 0; /* no root yet: absent */

        if (place->in_runtime_dir) {
                char name[16];

                (void)snprintf(name, sizeof(name), "%u", place->uid);
                directory = kernel.open_beneath(root, name);
                if (is_out_of_resources(directory))
                        return failure_kernel(f, directory, NULL, "Opening %s/%s", place->root, name);
                if (directory == -ENOENT)
                        return 0;
                if (directory < 0 || fstat(directory, &st) < 0 || !S_ISDIR(st.st_mode))
                        return refuse(s, path, "is not in a directory that can be trusted");
                socket_agree(s, subuids, st.st_uid);
                s->fd = kernel.open_beneath(directory, place->in_uid_dir);
        } else
                s->fd = kernel.open_beneath(root, place->relative);
        if (is_out_of_resources(s->fd)) {
                int error = s->fd;

                s->fd = -1;
                return failure_kernel(f, error, NULL, "Opening %s", path);
        }
        if (s->fd < 0) {
                int error = s->fd;

                s->fd = -1;
                if (!place->in_runtime_dir) {
                        uid_t uid = nearest_owner(root, place->relative);

                        s->owner = uid == UID_NONE ? UID_NONE : subuid_owner(subuids, uid);
                }
                if (error == -ENOENT)
                        return 0;
                return refuse(s, path,
                              error == -ELOOP   ? "leads over a symbolic link"
                              : error == -EXDEV ? "leads over a mount"
                                                : "cannot be reached");
        }
        if (fstat(s->fd, &st) < 0)
                return refuse(s, path, "cannot be looked at");
        s->device = st.st_dev;
        s->inode = st.st_ino;
        if (place->in_runtime_dir)
                socket_agree(s, subuids, st.st_uid);
        else
                s->owner = subuid_owner(subuids, st.st_uid);
        if (!S_ISSOCK(st.st_mode))
                return refuse(s, path, "is no socket");
        if (st.st_nlink != 1)
                return refuse(s, path, "is not its socket's only name");
        {
                struct timespec now;
                int64_t age;

                (void)clock_gettime(CLOCK_REALTIME, &now);
                age = (now.tv_sec - st.st_mtim.tv_sec) * (int64_t)USEC_PER_SEC +
                      (now.tv_nsec - st.st_mtim.tv_nsec) / 1000;
                s->age_usec = age > 0 ? (uint64_t)age : 0;
        }
        if (for_uid != UID_NONE && (!s->agrees || s->owner != for_uid)) {
                s->state = SOCKET_NOT_ASKED;
                return 0;
        }
        return find_listener(s, features, &st, f);
}

int socket_look(const Config *config, const Features *features, const SubuidMap *subuids,
                const char *path, uid_t for_uid, ApiSocket *ret, Failure *f) {
        ApiSocket s = API_SOCKET_NONE;
        Place place;
        uid_t uid;
        int r;

        r = place_of(config, path, &place, f);
        if (r < 0)
                return r;
        r = look(features, subuids, &place, path, for_uid, &s, f);
        if (r < 0) {
                socket_clear(&s);
                return r;
        }
        if (s.state == SOCKET_LISTENING) {
                r = process_uid_of(s.pid, s.pidfd, &uid);
                if (r == -ESRCH) { /* it died this very moment */
                        s.state = SOCKET_NOT_LISTENING;
                        s.pidfd = close_fd(s.pidfd);
                } else if (r < 0) {
                        socket_clear(&s);
                        return failure_kernel(f, r, NULL, "Reading whose the process behind %s is",
                                              path);
                } else
                        socket_agree(&s, subuids, uid);
        }
        *ret = s;
        return 0;
}

int socket_give(const ApiSocket *s, const char *path, uid_t uid, bool *ret_changed, Failure *f) {
        struct stat st;
        char link[32];
        int r;

        if (fstat(s->fd, &st) < 0)
                return failure_kernel(f, errno, NULL, "Looking at %s", path);
        *ret_changed = (st.st_mode & 07777) != 0600 || st.st_uid != uid;
        if (!*ret_changed)
                return 0;
        r = kernel.chmod_path_fd(s->fd, 0600);
        if (r == -ENOSYS || r == -EOPNOTSUPP || r == -EPERM) {
                (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", s->fd);
                r = chmod(link, 0600) < 0 ? -errno : 0;
        }
        if (r < 0)
                return failure_kernel(f, r,
                                      r == -EROFS ? "the service's unit needs BindPaths= for it"
                                                  : NULL,
                                      "Changing the mode of %s", path);
        if (fchownat(s->fd, "", uid, (gid_t)-1, AT_EMPTY_PATH) < 0)
                return failure_kernel(f, errno, NULL, "Giving %s to uid %u", path, uid);
        return 0;
}

static int runtime_dir_ensure(const Config *c, Failure *f) {
        struct stat st;
        int fd;

        if (mkdir(c->runtime_dir, 0711) < 0 && errno != EEXIST)
                return failure_kernel(f, errno, NULL, "Making %s", c->runtime_dir);
        fd = open(c->runtime_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
                int error = errno;

                (void)close_fd(fd);
                return failure_kernel(f, error, NULL, "Opening %s", c->runtime_dir);
        }
        if (st.st_uid != 0 && st.st_uid != geteuid()) {
                (void)close_fd(fd);
                return failure_set(f, FAILURE_ACCESS_DENIED,
                                   "%s belongs to uid %u, not to root or the service; its administrator must "
                                   "remove it",
                                   c->runtime_dir, st.st_uid);
        }
        if ((st.st_mode & 07777) != 0711 && fchmod(fd, 0711) < 0) {
                int error = errno;

                (void)close_fd(fd);
                return failure_kernel(f, error, NULL, "Changing the mode of %s", c->runtime_dir);
        }
        return fd;
}

static int open_own_dir(int root, const char *name, int *ret_fd, struct stat *ret_st) {
        _cleanup_close_ int pinned = kernel.open_beneath(root, name), fd = -1;

        if (pinned < 0)
                return pinned;
        fd = openat(pinned, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, ret_st) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int socket_dir_ensure(const Config *c, uid_t uid, char **ret_path, bool *ret_changed, Failure *f) {
        _cleanup_close_ int root = runtime_dir_ensure(c, f), fd = -1;
        _cleanup_free_ char *path = NULL;
        bool made = false;
        struct stat st;
        char name[16];
        int r;

        if (root < 0)
                return root;
        (void)snprintf(name, sizeof(name), "%u", uid);
        if (asprintf(&path, "%s/%s", c->runtime_dir, name) < 0) {
                path = NULL;
                return failure_oom(f);
        }
        made = mkdirat(root, name, 0700) == 0;
        if (!made && errno != EEXIST)
                return failure_kernel(f, errno, NULL, "Making %s", path);
        /* The user may have mounted something there (fusermount(1)) whose server never answers: the
         * first look must not cross into it. */
        r = open_own_dir(root, name, &fd, &st);
        if (r >= 0 && !made && uid != geteuid() && st.st_uid == geteuid() &&
            unlinkat(root, name, AT_REMOVEDIR) == 0) { /* we died once between mkdir and chown */
                fd = close_fd(fd);
                made = mkdirat(root, name, 0700) == 0;
                r = open_own_dir(root, name, &fd, &st);
        }
        if (r == -EXDEV || r == -ELOOP || r == -ENOTDIR)
                return failure_set(f, FAILURE_ACCESS_DENIED,
                                   "%s is a mount, a link or no directory; unmount or remove it",
                                   path);
        if (r < 0)
                return failure_kernel(f, r, "its administrator should remove what is there",
                                      "Opening %s", path);
        if (made && fchown(fd, uid, (gid_t)-1) < 0) {
                int error = errno;

                (void)unlinkat(root, name, AT_REMOVEDIR);
                return failure_kernel(f, error, NULL, "Giving %s to uid %u", path, uid);
        }
        if (!made && st.st_uid != uid)
                return failure_set(f, FAILURE_ACCESS_DENIED,
                                   "%s belongs to uid %u, not to uid %u; its administrator must remove it",
                                   path, st.st_uid, uid);
        if ((st.st_mode & 07777) != 0700 && fchmod(fd, 0700) < 0)
                return failure_kernel(f, errno, NULL, "Changing the mode of %s", path);
        *ret_changed = made || (st.st_mode & 07777) != 0700;
        *ret_path = TAKE_PTR(path);
        return 0;
}

int socket_nearest(const Config *config, const char *path, int *ret_fd, char **ret_name, Failure *f) {
        _cleanup_close_ int root = -1, fd = -1;
        _cleanup_free_ char *parent = NULL;
        const char *name;
        Place place;
        int r;

        r = place_of(config, path, &place, f);
        if (r < 0)
                return r;
        root = open_root(place.root);
        if (root < 0)
                return failure_kernel(f, root, NULL, "Opening %s", place.root);
        parent = strdup(place.relative);
        if (!parent)
                return failure_oom(f);
        for (;;) {
                char *slash = strrchr(parent, '/');

                if (!slash) {
                        fd = TAKE_FD(root);
                        name = place.relative;
                        break;
                }
                *slash = '\0';
                fd = kernel.open_beneath(root, parent);
                if (fd >= 0) {
                        name = place.relative + (slash - parent) + 1;
                        break;
                }
                if (fd != -ENOENT)
                        return failure_set(f, FAILURE_ACCESS_DENIED, "%s cannot be reached", path);
                fd = -1;
        }
        *ret_name = strndup(name, strcspn(name, "/"));
        if (!*ret_name)
                return failure_oom(f);
        *ret_fd = TAKE_FD(fd);
        return 0;
}
