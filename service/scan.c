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

#include "kernel.h"
#include "scan.h"
#include "validate.h"

#define ENTRIES_MAX 16384 /* of one directory */

typedef struct Walk {
        const ScanPlan *plan;
        ScanResult *result;
        size_t allocated, in_directory;
} Walk;

typedef void (*EntryFunction)(Walk *w, int directory, const char *path, const char *name);

static bool is_wanted(const Walk *w, uid_t uid) {
        SubuidMap map = {.ranges = w->plan->ranges, .n_ranges = w->plan->n_ranges};

        return w->plan->uid == UID_NONE || subuid_owner(&map, uid) == w->plan->uid;
}

static void for_each(Walk *w, int directory, const char *path, EntryFunction function) {
        int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
        struct dirent *entry;

        if (!stream) {
                (void)close_fd(fd);
                return;
        }
        for (unsigned n = 0; n < ENTRIES_MAX && (entry = readdir(stream)); n++)
                if (entry->d_name[0] != '.' || (entry->d_name[1] && strcmp(entry->d_name, "..") != 0))
                        function(w, directory, path, entry->d_name);
        (void)closedir(stream);
}

static void add_socket(Walk *w, int directory, const char *path, const char *name) {
        _cleanup_free_ char *full = NULL;
        struct stat st;

        if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISSOCK(st.st_mode) ||
            !is_wanted(w, st.st_uid) || asprintf(&full, "%s/%s", path, name) < 0) {
                full = NULL;
                return;
        }
        if (!path_valid(full))
                return;
        if (w->result->n >= SCAN_PATHS_MAX || w->in_directory >= SCAN_SOCKETS_MAX) {
                w->result->cut = true;
                return;
        }
        if (w->result->n == w->allocated) {
                size_t more = w->allocated ? 2 * w->allocated : 64;
                char **paths = reallocarray(w->result->paths, more, sizeof(char *));

                if (!paths)
                        return;
                w->result->paths = paths;
                w->allocated = more;
        }
        w->result->paths[w->result->n++] = TAKE_PTR(full);
        w->in_directory++;
}

/* Opens name below directory and walks it. */
static void descend(Walk *w, int directory, const char *path, const char *name,
                    EntryFunction function) {
        _cleanup_close_ int fd = kernel.open_beneath(directory, name);
        _cleanup_free_ char *full = NULL;
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
                return;
        if (asprintf(&full, "%s/%s", path, name) < 0) {
                full = NULL;
                return;
        }
        w->in_directory = 0;
        for_each(w, fd, full, function);
}

static void visit_uid(Walk *w, int directory, const char *path, const char *name) {
        uint64_t uid;

        if (number_parse(name, INT32_MAX, &uid) && is_wanted(w, (uid_t)uid))
                descend(w, directory, path, name, add_socket);
}

/* The jailer's layout: ROOT/EXEC/ID/root/run/SOCKET (src/jailer/src/env.rs). */
static void visit_jail(Walk *w, int directory, const char *path, const char *name) {
        _cleanup_free_ char *run = NULL;

        if (asprintf(&run, "%s/root/run", name) < 0) {
                run = NULL;
                return;
        }
        descend(w, directory, path, run, add_socket);
}

static void visit_exec(Walk *w, int directory, const char *path, const char *name) {
        descend(w, directory, path, name, visit_jail);
}

static void walk_root(Walk *w, const char *root, EntryFunction function) {
        _cleanup_close_ int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0)
                for_each(w, fd, root, function);
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
