/* SPDX-License-Identifier: MIT */
/* Waiting for a socket to appear and to be listened on.
 *
 * The name appearing is an event (inotify on the deepest directory that exists). Nothing tells
 * when bind(2) is followed by listen(2), so a young socket that refuses is tried again after 1, 2,
 * 4 … 50 ms; one older than a second is stale, and only another in its place helps. A caller can
 * make any number of events in his own directory: after a few, looks are 50 ms apart. */

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/loop.h"
#include "methods/socket-wait.h"

#define GAP_USEC USEC_PER_SEC
#define PAUSE_MAX_USEC (50 * USEC_PER_MSEC)
#define PROMPT_LOOKS 16U

void call_stop_waiting_for_socket(Call *call) {
        call->socket_appears = dir_watch_free(call->socket_appears);
        call->socket_retry = sd_event_source_disable_unref(call->socket_retry);
        free(TAKE_PTR(call->socket_name));
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Call *call = userdata;

        call->socket_retry = sd_event_source_disable_unref(call->socket_retry);
        call->socket_hurried = false;
        call_resume(call);
        return 0;
}

static int look_again_after(Call *call, uint64_t usec) {
        if (call->socket_retry)
                return loop_set_timer(call->socket_retry, usec);
        return loop_add_timer(call->service->event, &call->socket_retry, usec, on_retry, call);
}

static void on_directory(const char *name, void *userdata) {
        Call *call = userdata;

        if (!name) /* it is watched again when the handler comes to it */
                call->socket_appears = dir_watch_free(call->socket_appears);
        else if (strcmp(name, call->socket_name) != 0)
                return;
        if (call->socket_looks < PROMPT_LOOKS)
                (void)look_again_after(call, 0);
        else if (!call->socket_hurried) { /* once: or a stream of events would put the look off for ever */
                call->socket_hurried = true;
                (void)look_again_after(call, PAUSE_MAX_USEC);
        }
}

/* Watches the directory in which the next part of path has to appear; 1 if that is a new watch, so
 * that what came before it has to be looked for once more. */
static int watch_directory(Call *call, const char *path, Failure *f) {
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *name = NULL;
        struct stat st;
        int r;

        r = socket_nearest(call->service->config, path, &fd, &name, f);
        if (r < 0)
                return r;
        if (fstat(fd, &st) < 0)
                return failure_kernel(f, errno, NULL, "Looking at the directory of %s", path);
        if (call->socket_appears && call->socket_directory == st.st_ino &&
            strcmp(call->socket_name, name) == 0)
                return 0;
        call->socket_appears = dir_watch_free(call->socket_appears);
        r = dir_watch_new(call->service->dirs, fd, on_directory, call, &call->socket_appears);
        if (r < 0)
                return failure_kernel(f, r, NULL, "Watching the directory of %s", path);
        free(call->socket_name);
        call->socket_name = TAKE_PTR(name);
        call->socket_directory = st.st_ino;
        return 1;
}

int call_wait_for_socket(Call *call, const char *path, const char *label, const Target *t,
                         uint64_t timeout_usec) {
        uint64_t now = loop_now(), pause;
        Failure f;
        int r;

        if (call->socket_deadline == 0)
                call->socket_deadline = timeout_usec < USEC_FOREVER - now ? now + timeout_usec
                                                                          : USEC_FOREVER;
        if (now >= call->socket_deadline) {
                call_stop_waiting_for_socket(call);
                return call_fail(call, FAILURE_SOCKET_NOT_READY, "%s: the socket %s %s", label, path,
                                 t->socket.state == SOCKET_ABSENT
                                         ? "did not appear in time"
                                         : "is there, but nothing listens on it");
        }
        r = watch_directory(call, path, &f);
        if (r < 0)
                return call_fail_with(call, &f);

        pause = call->socket_deadline == USEC_FOREVER ? USEC_FOREVER : call->socket_deadline - now;
        if (r > 0 && call->socket_looks < PROMPT_LOOKS)
                pause = 0;
        else if (t->socket.state == SOCKET_NOT_LISTENING && t->socket.age_usec < GAP_USEC)
                pause = MIN_OF(pause, MIN_OF(USEC_PER_MSEC << MIN_OF(call->socket_looks, 6U),
                                             PAUSE_MAX_USEC));
        else if (r > 0)
                pause = MIN_OF(pause, PAUSE_MAX_USEC);
        call->socket_looks++;
        if (pause != USEC_FOREVER && look_again_after(call, pause) < 0) {
                (void)failure_oom(&f);
                return call_fail_with(call, &f);
        }
        return call_park(call);
}
