/* SPDX-License-Identifier: MIT */
/* One Directory for each inode that is watched, with all who watch it: the kernel has one watch
 * descriptor for an inode, too. */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "base/dir-watch.h"
#include "base/loop.h"
#include "base/paced.h"
#include "common/cleanup.h"

#define GULP 65536
#define REST_USEC (5 * USEC_PER_MSEC)
/* More events than this in one window, and the directory is left alone to the end of the next. */
#define NAMES_MAX 64U
#define WINDOW_USEC (100 * USEC_PER_MSEC)

#define EVENTS (IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

typedef struct Directory {
        DirWatcher *watcher;
        dev_t device;
        ino_t inode; /* while wd is not -1 this directory's, else it may be a later one's by now */
        int wd;      /* -1: not watched (any more) */
        uint64_t window;
        unsigned n_events; /* in the window that began then */
        char *names[NAMES_MAX];
        unsigned n_names; /* of this gulp */
        bool touched, whole;
        sd_event_source *back; /* ends the time in which it is left alone */
        LIST_HEAD(, DirWatch) watches;
        LIST_ENTRY(Directory) in_list;
        TAILQ_ENTRY(Directory) in_touched;
} Directory;

struct DirWatch {
        Directory *directory;
        DirWatchFunction function;
        void *userdata;
        LIST_ENTRY(DirWatch) in_directory;
};

struct DirWatcher {
        sd_event *event;
        int fd;
        Paced *paced;
        int left_alone; /* the last watch descriptor that was given up: its events may still come */
        DirWatch *next; /* to be told next; it may go while others are told */
        Directory *delivering;
        LIST_HEAD(, Directory) directories;
        TAILQ_HEAD(, Directory) touched;
};

static int kernel_watch(DirWatcher *w, int fd) {
        char path[32];
        int wd;

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        wd = inotify_add_watch(w->fd, path, EVENTS);
        return wd < 0 ? -errno : wd;
}

static Directory *find(DirWatcher *w, int wd) {
        Directory *d;

        LIST_FOREACH(d, &w->directories, in_list)
                if (d->wd == wd)
                        return d;
        return NULL;
}

static void forget_names(Directory *d) {
        while (d->n_names > 0)
                free(d->names[--d->n_names]);
        d->whole = false;
}

static void directory_free(Directory *d) {
        DirWatcher *w = d->watcher;

        if (d->touched)
                TAILQ_REMOVE(&w->touched, d, in_touched);
        if (w->delivering == d)
                w->delivering = NULL;
        if (d->wd >= 0)
                (void)inotify_rm_watch(w->fd, d->wd);
        forget_names(d);
        sd_event_source_disable_unref(d->back);
        LIST_REMOVE(d, in_list);
        free(d);
}

static void touch(Directory *d) {
        if (d->touched)
                return;
        d->touched = true;
        TAILQ_INSERT_TAIL(&d->watcher->touched, d, in_touched);
}

/* Tells all who watch it one name, NULL for the whole. False if it is gone meanwhile. */
static bool tell(Directory *d, const char *name) {
        DirWatcher *w = d->watcher;

        w->delivering = d;
        for (DirWatch *watch = LIST_FIRST(&d->watches); watch; watch = w->next) {
                w->next = LIST_NEXT(watch, in_directory);
                watch->function(name, watch->userdata);
                if (!w->delivering)
                        return false;
        }
        w->next = NULL;
        return true;
}

static void deliver(DirWatcher *w) {
        Directory *d;

        while ((d = TAILQ_FIRST(&w->touched))) {
                char *names[NAMES_MAX];
                unsigned n = d->n_names;
                bool whole = d->whole, there = true;

                TAILQ_REMOVE(&w->touched, d, in_touched);
                d->touched = d->whole = false;
                memcpy(names, d->names, n * sizeof(char *));
                d->n_names = 0;
                if (whole)
                        there = tell(d, NULL);
                for (unsigned i = 0; i < n; i++) {
                        if (there && !whole)
                                there = tell(d, names[i]);
                        free(names[i]);
                }
        }
        w->delivering = NULL;
}

/* What happened meanwhile nobody knows. */
static int on_back(sd_event_source *source, uint64_t usec, void *userdata) {
        Directory *d = userdata;
        DirWatcher *w = d->watcher;

        d->back = sd_event_source_disable_unref(d->back);
        d->whole = true;
        touch(d);
        deliver(w);
        return 0;
}

/* Too much happens there. False where the timer cannot be had: then it goes on. */
static bool leave_alone(Directory *d) {
        if (loop_add_timer(d->watcher->event, &d->back, WINDOW_USEC, on_back, d) < 0)
                return false;
        (void)sd_event_source_set_priority(d->back, PRIORITY_TURNS);
        (void)inotify_rm_watch(d->watcher->fd, d->wd);
        d->watcher->left_alone = d->wd;
        d->wd = -1;
        return true;
}

static void take_name(Directory *d, const char *name) {
        uint64_t now = loop_now();

        if (now - d->window > WINDOW_USEC) {
                d->window = now;
                d->n_events = 0;
        }
        if (++d->n_events > NAMES_MAX) {
                forget_names(d);
                /* it is looked through when it is watched again */
                d->whole = !leave_alone(d);
                return;
        }
        for (unsigned i = 0; i < d->n_names; i++)
                if (strcmp(d->names[i], name) == 0)
                        return;
        if (d->n_names < NAMES_MAX && (d->names[d->n_names] = strdup(name)))
                d->n_names++;
        else
                d->whole = true;
}

static void take_event(DirWatcher *w, const struct inotify_event *event) {
        Directory *d;

        if (event->mask & IN_Q_OVERFLOW) {
                LIST_FOREACH(d, &w->directories, in_list) {
                        d->whole = true;
                        touch(d);
                }
                return;
        }
        d = event->wd == w->left_alone ? NULL : find(w, event->wd);
        if (!d) /* not watched any more */
                return;
        if (event->mask & IN_IGNORED)
                d->wd = -1;
        if (event->len > 0)
                take_name(d, event->name);
        else
                d->whole = true;
        touch(d);
}

static void on_readable(void *userdata) {
        char buffer[GULP] __attribute__((aligned(__alignof__(struct inotify_event))));
        DirWatcher *w = userdata;
        ssize_t n = read(w->fd, buffer, sizeof(buffer));

        for (char *p = buffer; n > 0 && p < buffer + n;) {
                const struct inotify_event *event = (const struct inotify_event *)p;

                take_event(w, event);
                p += sizeof(*event) + event->len;
        }
        deliver(w);
}

int dir_watcher_new(sd_event *event, DirWatcher **ret) {
        DirWatcher *w = calloc(1, sizeof(*w));
        int r;

        if (!w)
                return -ENOMEM;
        w->event = sd_event_ref(event);
        w->left_alone = -1;
        TAILQ_INIT(&w->touched);
        w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        r = w->fd < 0 ? -errno : paced_new(event, w->fd, REST_USEC, on_readable, w, &w->paced);
        if (r < 0) {
                dir_watcher_free(w);
                return r;
        }
        *ret = w;
        return 0;
}

void dir_watcher_free(DirWatcher *w) {
        if (!w)
                return;
        paced_free(w->paced);
        (void)close_fd(w->fd);
        sd_event_unref(w->event);
        free(w);
}

/* The one with the inode of fd, or a new one. */
static int directory_get(DirWatcher *w, int fd, Directory **ret) {
        struct stat st;
        Directory *d;

        if (fstat(fd, &st) < 0)
                return -errno;
        LIST_FOREACH(d, &w->directories, in_list)
                if (d->inode == st.st_ino && d->device == st.st_dev) {
                        *ret = d;
                        return 0;
                }
        d = calloc(1, sizeof(*d));
        if (!d)
                return -ENOMEM;
        *d = (Directory){.watcher = w, .device = st.st_dev, .inode = st.st_ino, .wd = -1};
        LIST_INSERT_HEAD(&w->directories, d, in_list);
        *ret = d;
        return 0;
}

int dir_watch_new(DirWatcher *w, int directory, DirWatchFunction function, void *userdata,
                  DirWatch **ret) {
        DirWatch *watch = calloc(1, sizeof(*watch));
        Directory *d = NULL;
        int r = watch ? directory_get(w, directory, &d) : -ENOMEM;

        if (r < 0) {
                free(watch);
                return r;
        }
        if (d->wd < 0 && !d->back)
                d->wd = r = kernel_watch(w, directory);
        if (r < 0) {
                if (LIST_EMPTY(&d->watches))
                        directory_free(d);
                free(watch);
                return r;
        }
        *watch = (DirWatch){.directory = d, .function = function, .userdata = userdata};
        LIST_INSERT_HEAD(&d->watches, watch, in_directory);
        *ret = watch;
        return 0;
}

DirWatch *dir_watch_free(DirWatch *watch) {
        Directory *d;

        if (!watch)
                return NULL;
        d = watch->directory;
        if (d->watcher->next == watch)
                d->watcher->next = LIST_NEXT(watch, in_directory);
        LIST_REMOVE(watch, in_directory);
        if (LIST_EMPTY(&d->watches))
                directory_free(d);
        free(watch);
        return NULL;
}
