/* SPDX-License-Identifier: MIT */
/* Auto-delete and the rest of a tap's own life.
 *
 * Whether a VMM ever held a tap is the kernel's IFLA_CARRIER_UP_COUNT: 0 until somebody other than
 * the creating descriptor attaches. Carrier gone after that means that it was let go. The report of
 * a lost carrier may be a second late (net/core/link_watch.c gathers them), so when a process ends
 * its user's taps are looked at at once. Everything is decided again on the worker, from the kernel. */

#include <errno.h>
#include <string.h>

#include "events.h"
#include "log.h"
#include "peer.h"
#include "tap-watch.h"
#include "tap.h"

typedef enum Duty {
        DUTY_UNPLUG,
        DUTY_AUTO_DELETE,
        DUTY_CREATOR_GONE
} Duty;

typedef struct TapJob {
        Job job; /* first */
        Service *service;
        Features features;
        Duty duty;
        int ifindex;
        uid_t uid;
        int result;
        bool acted;
        char name[IFNAMSIZ];
        Failure failure;
} TapJob;

static void duty_run(Job *job, Netlink *nl) {
        TapJob *j = (TapJob *)job;
        uint8_t mac[6];
        Link link;

        if (!nl || netlink_get_link(nl, j->ifindex, NULL, &link) < 0 || !link_is_our_tap(&link) ||
            link.alias.uid != j->uid)
                return;
        memcpy(j->name, link.name, sizeof(j->name));
        if (j->duty == DUTY_UNPLUG) {
                tap_mac(j->ifindex, mac);
                if (link.master == 0 || memcmp(mac, link.mac, 6) == 0)
                        return;
                j->result = tap_unplug(nl, j->ifindex, &j->failure);
        } else {
                if (!*link.alias.auto_delete || link.carrier || !link.persistent ||
                    (link.carrier_up_count == 0 && j->duty != DUTY_CREATOR_GONE))
                        return;
                j->result = tap_displace(nl, &j->features, j->ifindex, link.name, j->uid,
                                         &j->failure);
        }
        j->acted = j->result >= 0;
}

static void duty_done(Job *job) {
        TapJob *j = (TapJob *)job;
        LinkEntry *e;

        if (j->result < 0)
                log_message(LOG_WARNING, "%s", j->failure.text);
        if (j->acted)
                log_message(LOG_NOTICE,
                            j->duty == DUTY_UNPLUG
                                    ? "Tap %s of uid %u left the bridge: its holder changed its MAC"
                                    : "Tap %s of uid %u is deleted by itself (auto-delete)",
                            j->name, j->uid);
        link_table_sync(j->service->links); /* what was displaced goes to the reaper */
        e = link_table_by_ifindex(j->service->links, j->ifindex);
        if (e)
                e->duties &= ~(1U << j->duty);
        free(j);
}

static void duty_drop(Job *job) {
        free(job);
}

/* One of a kind for each tap is enough: it looks for itself. */
static void submit(Service *s, Duty duty, LinkEntry *e) {
        const Link *link = &e->link;
        TapJob *j;

        if ((e->duties & (1U << duty)) || !(j = calloc(1, sizeof(*j))))
                return;
        e->duties |= 1U << duty;
        *j = (TapJob){.job = {.run = duty_run, .done = duty_done, .drop = duty_drop},
                      .service = s,
                      .features = s->features,
                      .duty = duty,
                      .ifindex = link->ifindex,
                      .uid = link->alias.uid};
        worker_submit(s->link_worker, &j->job);
}

static bool was_let_go(const Link *link) {
        return *link->alias.auto_delete && link->persistent && !link->carrier &&
               link->carrier_up_count > 0;
}

static void reap(Service *s, int ifindex);

static int on_reap_again(sd_event_source *source, uint64_t usec, void *userdata) {
        Service *s = userdata;

        s->reaps_again = false;
        for (LinkEntry *e = link_table_next(s->links, NULL); e; e = link_table_next(s->links, e))
                if (link_is_displaced(&e->link))
                        reap(s, e->link.ifindex);
        return 0;
}

void tap_watch_reap_again(Service *s) {
        if (!s->reaps_again)
                s->reaps_again = sd_event_add_time_relative(s->event, NULL, CLOCK_MONOTONIC,
                                                            USEC_PER_SEC, 0, on_reap_again, s) >= 0;
}

static void reap(Service *s, int ifindex) {
        if (tap_reaper_add(s->reaper, ifindex, NULL, NULL) < 0)
                tap_watch_reap_again(s);
}

void tap_watch_link_changed(LinkEntry *e, const Link *before, const Link *after, void *userdata) {
        Service *s = userdata;
        uint8_t mac[6];

        if (e->announced && (!after || !link_is_our_tap(after))) {
                e->announced = false;
                events_tap(s, "TapDeleted", before);
        }
        if (!after)
                return;
        if (link_is_displaced(after) && (!before || !link_is_displaced(before)))
                reap(s, after->ifindex);
        if (!link_is_our_tap(after) || !after->persistent)
                return;
        if (!e->announced) {
                e->announced = true;
                events_tap(s, "TapCreated", after);
        }
        tap_mac(after->ifindex, mac);
        if (after->master != 0 && memcmp(mac, after->mac, 6) != 0)
                submit(s, DUTY_UNPLUG, e);
        if (was_let_go(after) && (!before || !was_let_go(before)))
                submit(s, DUTY_AUTO_DELETE, e);
}

void tap_watch_start(Service *s) {
        Peer *peer;

        for (LinkEntry *e = link_table_next(s->links, NULL); e; e = link_table_next(s->links, e)) {
                if (!link_is_our_tap(&e->link) || !*e->link.alias.auto_delete)
                        continue;
                if (was_let_go(&e->link))
                        submit(s, DUTY_AUTO_DELETE, e);
                else if (e->link.carrier_up_count == 0)
                        (void)peer_get(s, e->link.alias.auto_delete, &peer);
        }
}

void tap_watch_peer_gone(Service *s, const char *unique_name) {
        if (!s->links || s->stopping)
                return;
        for (LinkEntry *e = link_table_next(s->links, NULL); e; e = link_table_next(s->links, e))
                if (link_is_our_tap(&e->link) && strcmp(e->link.alias.auto_delete, unique_name) == 0 &&
                    e->link.carrier_up_count == 0)
                        submit(s, DUTY_CREATOR_GONE, e);
}

void tap_watch_peer_known(Service *s, const char *unique_name, uid_t uid) {
        if (!s->links)
                return;
        for (LinkEntry *e = link_table_next(s->links, NULL); e; e = link_table_next(s->links, e))
                if (link_is_our_tap(&e->link) && strcmp(e->link.alias.auto_delete, unique_name) == 0 &&
                    e->link.alias.uid != uid && e->link.carrier_up_count == 0)
                        submit(s, DUTY_CREATOR_GONE, e);
}

void tap_watch_process_exited(Service *s, uid_t uid) {
        for (LinkEntry *e = link_table_next(s->links, NULL); e; e = link_table_next(s->links, e))
                if (link_is_our_tap(&e->link) && *e->link.alias.auto_delete &&
                    e->link.alias.uid == uid && e->link.carrier_up_count > 0)
                        submit(s, DUTY_AUTO_DELETE, e);
}
