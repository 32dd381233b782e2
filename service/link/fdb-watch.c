/* SPDX-License-Identifier: MIT */
/* A monitor of its own: what it hears of is filtered in the kernel, and reports of links cannot push
 * it out. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/paced.h"
#include "common/cleanup.h"
#include "link/fdb-watch.h"
#include "link/netlink.h"

#define REST (5 * USEC_PER_MSEC) /* after each gulp of reports */

#define MACS_MAX 4096 /* in one gulp; where it is more, every guest-mac is looked at */

struct FdbWatch {
        Netlink *monitor;
        Paced *paced;
        FdbGoneWatchFunction function;
        void *userdata;
        size_t n;
        Mac macs[MACS_MAX];
};

int mac_compare(const void *a, const void *b) {
        return memcmp(a, b, sizeof(Mac));
}

static void on_gone(const uint8_t mac[static 6], void *userdata) {
        FdbWatch *w = userdata;

        if (w->n < MACS_MAX)
                memcpy(w->macs[w->n].bytes, mac, 6);
        w->n++;
}

/* Whoever is looked for is looked for once in a gulp, however many entries went. */
static void on_readable(void *userdata) {
        FdbWatch *w = userdata;
        int r;

        w->n = 0;
        r = netlink_read_fdb_monitor(w->monitor, on_gone, w);
        if (r == -ENOBUFS)
                log_message(LOG_WARNING,
                            "Reports of bridges' forwarding tables were lost; checking every guest-mac");
        if (r == -ENOBUFS || w->n > MACS_MAX) {
                w->function(NULL, 0, w->userdata);
        } else if (w->n > 0) {
                qsort(w->macs, w->n, sizeof(Mac), mac_compare);
                w->function(w->macs, w->n, w->userdata);
        }
}

int fdb_watch_new(sd_event *event, FdbGoneWatchFunction function, void *userdata, FdbWatch **ret) {
        FdbWatch *w = calloc(1, sizeof(*w));
        int r;

        if (!w)
                return -ENOMEM;
        w->function = function;
        w->userdata = userdata;
        r = netlink_open_fdb_monitor(&w->monitor);
        if (r >= 0)
                r = paced_new(event, netlink_fd(w->monitor), REST, on_readable, w, &w->paced);
        if (r < 0) {
                fdb_watch_free(w);
                return r;
        }
        *ret = w;
        return 0;
}

void fdb_watch_free(FdbWatch *w) {
        if (!w)
                return;
        paced_free(w->paced);
        netlink_close(w->monitor);
        free(w);
}
