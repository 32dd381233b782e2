/* SPDX-License-Identifier: MIT */
/* Finding sockets. A name found here is only a name: who it belongs to and who listens is looked
 * at afterwards, pinned, like a path from a caller. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/kernel.h"
#include "common/validate.h"
#include "vm/scan.h"

#define ENTRIES_MAX 16384 /* of one directory */

typedef struct Walk {
        const ScanPlan *plan;
        ScanResult *result;
        size_t allocated, in_directory;
} Walk;

/* A directory under way. */
typedef struct Here {
        int fd;
        const char *path;
        uid_t owner;
} Here;

typedef void (*EntryFunction)(Walk *w, const Here *here, const struct dirent *entry);

static uid_t owner_of(const Walk *w, uid_t uid) {
        SubuidMap map = {.ranges = w->plan->ranges, .n_ranges = w->plan->n_ranges};

        return subuid_owner(&map, uid);
}

static bool is_wanted(const Walk *w, uid_t uid) {
        return w->plan->uid == UID_NONE || owner_of(w, uid) == w->plan->uid;
}

int scan_add_cut(ScanResult *result, const char *directory, uid_t owner) {
        ScanCut *cuts;

        if (result->n_cuts > 0 && strcmp(result->cuts[result->n_cuts - 1].path, directory) == 0)
                return 0;
        cuts = reallocarray(result->cuts, result->n_cuts + 1, sizeof(ScanCut));
        if (!cuts)
                return -ENOMEM;
        result->cuts = cuts;
        cuts[result->n_cuts] = (ScanCut){.path = strdup(directory), .owner = owner};
        if (!cuts[result->n_cuts].path)
                return -ENOMEM;
        result->n_cuts++;
        return 0;
}

static void cut(Walk *w, const Here *here) {
        if (scan_add_cut(w->result, here->path, here->owner) < 0)
                w->result->error = -ENOMEM;
}

/* Something could not be looked at. What nobody reaches by its path, because it is not there, no
 * directory, or behind a mount or a link, is not missing from the result. */
static void failed(Walk *w, const Here *here, int error) {
        if (error == -EMFILE || error == -ENFILE || error == -ENOMEM)
                w->result->error = error;
        else if (error != -ENOENT && error != -ENOTDIR && error != -ELOOP && error != -EXDEV)
                cut(w, here);
}

static void for_each(Walk *w, const Here *here, EntryFunction function) {
        int fd = openat(here->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
        struct dirent *entry;

        if (!stream) {
                failed(w, here, -errno);
                (void)close_fd(fd);
                return;
        }
        for (unsigned n = 0; (errno = 0, entry = readdir(stream)); n++) {
                if (n == ENTRIES_MAX) {
                        cut(w, here);
                        break;
                }
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        function(w, here, entry);
        }
        if (!entry && errno != 0)
                failed(w, here, -errno);
        (void)closedir(stream);
}

static void add_path(Walk *w, const Here *here, const char *name) {
        _cleanup_free_ char *full = NULL;

        if (asprintf(&full, "%s/%s", here->path, name) < 0) {
                full = NULL;
                w->result->error = -ENOMEM;
                return;
        }
        if (!path_valid(full)) /* a path that no caller may name */
                return;
        if (w->result->n >= SCAN_PATHS_MAX || w->in_directory >= SCAN_SOCKETS_MAX) {
                cut(w, here);
                return;
        }
        if (w->result->n == w->allocated) {
                size_t more = w->allocated ? 2 * w->allocated : 64;
                char **paths = reallocarray(w->result->paths, more, sizeof(char *));

                if (!paths) {
                        w->result->error = -ENOMEM;
                        return;
                }
                w->result->paths = paths;
                w->allocated = more;
        }
        w->result->paths[w->result->n++] = TAKE_PTR(full);
        w->in_directory++;
}

/* Not stat(2), which would ask a file system that a user has mounted there. */
static void visit_file(Walk *w, const Here *here, const struct dirent *entry) {
        _cleanup_close_ int fd = -1;
        struct stat st;

        if (entry->d_type != DT_SOCK && entry->d_type != DT_UNKNOWN)
                return;
        fd = kernel.open_beneath(here->fd, entry->d_name);
        if (fd < 0)
                failed(w, here, fd);
        else if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && is_wanted(w, st.st_uid))
                add_path(w, here, entry->d_name);
}

/* Opens name below here and walks it. */
static void descend(Walk *w, const Here *here, const char *name, EntryFunction function) {
        _cleanup_close_ int fd = kernel.open_beneath(here->fd, name);
        _cleanup_free_ char *full = NULL;
        struct stat st;

        if (fd < 0) {
                failed(w, here, fd);
                return;
        }
        if (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
                return;
        if (asprintf(&full, "%s/%s", here->path, name) < 0) {
                full = NULL;
                w->result->error = -ENOMEM;
                return;
        }
        w->in_directory = 0;
        for_each(w, &(Here){.fd = fd, .path = full, .owner = owner_of(w, st.st_uid)}, function);
}

static void visit_uid(Walk *w, const Here *here, const struct dirent *entry) {
        uint64_t uid;

        if (number_parse(entry->d_name, INT32_MAX, &uid) && is_wanted(w, (uid_t)uid))
                descend(w, here, entry->d_name, visit_file);
}

/* The jailer's layout: ROOT/EXEC/ID/root/run/SOCKET (src/jailer/src/env.rs). */
static void visit_jail(Walk *w, const Here *here, const struct dirent *entry) {
        _cleanup_free_ char *run = NULL;

        if (asprintf(&run, "%s/root/run", entry->d_name) < 0) {
                run = NULL;
                w->result->error = -ENOMEM;
                return;
        }
        descend(w, here, run, visit_file);
}

static void visit_exec(Walk *w, const Here *here, const struct dirent *entry) {
        descend(w, here, entry->d_name, visit_jail);
}

static void walk_root(Walk *w, const char *root, EntryFunction function) {
        _cleanup_close_ int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        Here here = {.fd = fd, .path = root, .owner = 0};

        if (fd >= 0)
                for_each(w, &here, function);
        else
                failed(w, &here, -errno);
}

static int by_name(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

void scan_run(const ScanPlan *plan, ScanResult *ret) {
        Walk w = {.plan = plan, .result = ret};

        *ret = (ScanResult){};
        walk_root(&w, plan->runtime_dir, visit_uid);
        for (size_t i = 0; i < plan->n_roots; i++)
                walk_root(&w, plan->roots[i], visit_exec);
        if (ret->n > 0)
                qsort(ret->paths, ret->n, sizeof(char *), by_name);
}

void scan_result_clear(ScanResult *result) {
        for (size_t i = 0; i < result->n; i++)
                free(result->paths[i]);
        free(result->paths);
        for (size_t i = 0; i < result->n_cuts; i++)
                free(result->cuts[i].path);
        free(result->cuts);
        *result = (ScanResult){};
}

int scan_plan(const Config *config, const SubuidMap *subuids, uid_t uid, ScanPlan *ret) {
        ScanPlan plan = {.uid = uid, .runtime_dir = strdup(config->runtime_dir)};
        size_t n = 0;

        while (config->socket_roots[n])
                n++;
        plan.roots = calloc(n + 1, sizeof(char *));
        plan.ranges = calloc(subuids->n_ranges + 1, sizeof(SubuidRange));
        if (!plan.runtime_dir || !plan.roots || !plan.ranges) {
                scan_plan_clear(&plan);
                return -ENOMEM;
        }
        for (; plan.n_roots < n; plan.n_roots++) {
                plan.roots[plan.n_roots] = strdup(config->socket_roots[plan.n_roots]);
                if (!plan.roots[plan.n_roots]) {
                        scan_plan_clear(&plan);
                        return -ENOMEM;
                }
        }
        if (subuids->n_ranges > 0)
                memcpy(plan.ranges, subuids->ranges, subuids->n_ranges * sizeof(SubuidRange));
        plan.n_ranges = subuids->n_ranges;
        *ret = plan;
        return 0;
}

void scan_plan_clear(ScanPlan *plan) {
        for (size_t i = 0; i < plan->n_roots; i++)
                free(plan->roots[i]);
        free(plan->roots);
        free(plan->ranges);
        free(plan->runtime_dir);
        *plan = (ScanPlan){};
}
