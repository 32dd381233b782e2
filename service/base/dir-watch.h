/* SPDX-License-Identifier: MIT */
#pragma once

/* What appears in directories that users own.
 *
 * A user can make events without end in their own directory. So events are read in gulps (paced.h),
 * and a directory with too many of them is not watched for a while: then it has to be looked through
 * as a whole, once, and nobody else's events are lost or late. See inotify(7).
 *
 * No descriptor of a directory is held: with one the kernel would not tell that it was removed. */

#include <systemd/sd-event.h>

typedef struct DirWatcher DirWatcher; /* one inotify instance for all */
typedef struct DirWatch DirWatch;

/* name was created or moved there. NULL: anything may have happened, to the directory too, and the
 * watch is over; make a new one, then look for yourself. Called from the loop; it may free any
 * DirWatch, its own among them. */
typedef void (*DirWatchFunction)(const char *name, void *userdata);

int dir_watcher_new(sd_event *event, DirWatcher **ret);
/* After all its watches. */
void dir_watcher_free(DirWatcher *watcher);

/* directory: a descriptor, O_PATH is enough; it stays the caller's. Negative errno. */
int dir_watch_new(DirWatcher *watcher, int directory, DirWatchFunction function, void *userdata,
                  DirWatch **ret);
/* Returns NULL. */
DirWatch *dir_watch_free(DirWatch *watch);
