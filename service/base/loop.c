/* SPDX-License-Identifier: MIT */
#include <time.h>

#include "base/loop.h"
#include "common/cleanup.h"

uint64_t loop_now(void) {
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

static int set_priority(sd_event_source **source, int r, int64_t priority) {
        if (r >= 0)
                r = sd_event_source_set_priority(*source, priority);
        if (r < 0)
                *source = sd_event_source_disable_unref(*source);
        return r;
}

int loop_add_timer(sd_event *event, sd_event_source **ret, uint64_t usec,
                   sd_event_time_handler_t function, void *userdata) {
        sd_event_source *source = NULL;
        int r = sd_event_add_time_relative(event, &source, CLOCK_MONOTONIC, usec, USEC_PER_MSEC,
                                           function, userdata);

        r = set_priority(&source, r, PRIORITY_OWED);
        if (r >= 0)
                *ret = source;
        return r;
}

int loop_set_timer(sd_event_source *timer, uint64_t usec) {
        int r = sd_event_source_set_time_relative(timer, usec);

        return r < 0 ? r : sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

int loop_add_slices(sd_event *event, sd_event_source **ret, sd_event_time_handler_t function,
                    void *userdata) {
        sd_event_source *source = NULL;
        int r = sd_event_add_time(event, &source, CLOCK_MONOTONIC, 0, 1, function, userdata);

        if (r >= 0)
                r = sd_event_source_set_enabled(source, SD_EVENT_OFF);
        r = set_priority(&source, r, PRIORITY_TURNS);
        if (r >= 0)
                *ret = source;
        return r;
}

int loop_slice_again(sd_event_source *slices) {
        int enabled, r = sd_event_source_get_enabled(slices, &enabled);

        /* setting the time of one that is ready would make it the youngest again */
        if (r < 0 || enabled != SD_EVENT_OFF)
                return r < 0 ? r : 0;
        r = sd_event_source_set_time(slices, 0);
        return r < 0 ? r : sd_event_source_set_enabled(slices, SD_EVENT_ONESHOT);
}
