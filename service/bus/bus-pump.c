/* SPDX-License-Identifier: MIT */
/* sd_bus_get_fd(3), sd_bus_get_events(3) and sd_bus_get_timeout(3), on two sources: before each
 * wait they are told what the connection waits for. */

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/log.h"
#include "base/loop.h"
#include "bus/bus-pump.h"
#include "common/cleanup.h"

#define GULP 64U
#define BEHIND_BYTES (1024 * 1024)

struct BusPump {
        sd_bus *bus;
        sd_event_source *io, *timeout;
        uint64_t until; /* what timeout is set to, USEC_FOREVER: it is off */
};

static int process(BusPump *pump) {
        uint64_t end = loop_now() + TURN_USEC;
        int r = 1;

        for (unsigned n = 0; r > 0 && n < GULP && loop_now() < end; n++)
                r = sd_bus_process(pump->bus, NULL);
        if (r >= 0)
                return 0;
        log_message(LOG_ERR, "The connection to the bus failed: %s; ending", strerrordesc_np(-r));
        return sd_event_exit(sd_event_source_get_event(pump->io), 1);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        return process(userdata);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
        BusPump *pump = userdata;

        pump->until = USEC_FOREVER;
        return process(pump);
}

static int on_prepare(sd_event_source *source, void *userdata) {
        BusPump *pump = userdata;
        uint64_t until;
        int r = sd_bus_get_events(pump->bus);

        if (r >= 0) /* poll's and epoll's names of these two are the same number */
                r = sd_event_source_set_io_events(pump->io, (uint32_t)r & (EPOLLIN | EPOLLOUT));
        if (r >= 0)
                r = sd_bus_get_timeout(pump->bus, &until);
        if (r < 0)
                return r;
        if (r == 0)
                until = USEC_FOREVER;
        if (until == pump->until) /* setting it anew would make it the youngest in each turn */
                return 0;
        pump->until = until;
        if (until == USEC_FOREVER)
                return sd_event_source_set_enabled(pump->timeout, SD_EVENT_OFF);
        r = sd_event_source_set_time(pump->timeout, until);
        return r < 0 ? r : sd_event_source_set_enabled(pump->timeout, SD_EVENT_ONESHOT);
}

int bus_pump_new(sd_event *event, sd_bus *bus, BusPump **ret) {
        BusPump *pump = calloc(1, sizeof(*pump));
        int r;

        if (!pump)
                return -ENOMEM;
        *pump = (BusPump){.bus = sd_bus_ref(bus), .until = USEC_FOREVER};
        r = sd_bus_get_fd(bus);
        if (r >= 0)
                r = sd_event_add_io(event, &pump->io, r, EPOLLIN, on_io, pump);
        if (r >= 0)
                r = sd_event_source_set_prepare(pump->io, on_prepare);
        if (r >= 0)
                r = sd_event_source_set_priority(pump->io, PRIORITY_TURNS);
        if (r >= 0)
                r = sd_event_add_time(event, &pump->timeout, CLOCK_MONOTONIC, 0, USEC_PER_MSEC,
                                      on_timeout, pump);
        if (r >= 0)
                r = sd_event_source_set_enabled(pump->timeout, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_source_set_priority(pump->timeout, PRIORITY_TURNS);
        if (r < 0) {
                bus_pump_free(pump);
                return r;
        }
        *ret = pump;
        return 0;
}

bool bus_pump_is_behind(BusPump *pump) {
        uint64_t queued = 0;
        int bytes = 0;

        (void)sd_bus_get_n_queued_write(pump->bus, &queued);
        return queued > 0 ||
               (ioctl(sd_bus_get_fd(pump->bus), SIOCOUTQ, &bytes) == 0 && bytes > BEHIND_BYTES);
}

void bus_pump_free(BusPump *pump) {
        if (!pump)
                return;
        sd_event_source_disable_unref(pump->io);
        sd_event_source_disable_unref(pump->timeout);
        sd_bus_unref(pump->bus);
        free(pump);
}
