/* SPDX-License-Identifier: MIT */
/* One source for the descriptor, one timer that ends its rest. A user who keeps the descriptor
 * readable gets a gulp in each rest_usec, and no more of the loop than that. */

#include <errno.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/loop.h"
#include "base/paced.h"
#include "common/cleanup.h"

struct Paced {
        PacedFunction function;
        void *userdata;
        uint64_t rest_usec;
        sd_event_source *readable, *rested;
};

static int on_rested(sd_event_source *source, uint64_t usec, void *userdata) {
        Paced *p = userdata;

        return sd_event_source_set_enabled(p->readable, SD_EVENT_ON);
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Paced *p = userdata;

        /* where the rest cannot be set the descriptor stays on: late is better than never */
        if (sd_event_source_set_time_relative(p->rested, p->rest_usec) >= 0 &&
            sd_event_source_set_enabled(p->rested, SD_EVENT_ONESHOT) >= 0)
                (void)sd_event_source_set_enabled(p->readable, SD_EVENT_OFF);
        p->function(p->userdata);
        return 0;
}

int paced_new(sd_event *event, int fd, uint64_t rest_usec, PacedFunction function, void *userdata,
              Paced **ret) {
        Paced *p = calloc(1, sizeof(*p));
        int r;

        if (!p)
                return -ENOMEM;
        *p = (Paced){.function = function, .userdata = userdata, .rest_usec = rest_usec};
        r = sd_event_add_io(event, &p->readable, fd, EPOLLIN, on_readable, p);
        if (r >= 0)
                r = sd_event_source_set_priority(p->readable, PRIORITY_TURNS);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &p->rested, CLOCK_MONOTONIC, 0, USEC_PER_MSEC,
                                               on_rested, p);
        if (r >= 0)
                r = sd_event_source_set_enabled(p->rested, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_source_set_priority(p->rested, PRIORITY_OWED);
        if (r < 0) {
                paced_free(p);
                return r;
        }
        *ret = p;
        return 0;
}

void paced_free(Paced *p) {
        if (!p)
                return;
        sd_event_source_disable_unref(p->readable);
        sd_event_source_disable_unref(p->rested);
        free(p);
}
