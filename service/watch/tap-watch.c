/* SPDX-License-Identifier: MIT */
/* Auto-delete and the rest of a tap's own life: duties, done on the worker.
 *
 * What a holder can change (MAC, carrier, persistence, tun owner) is no condition of a guard, and a
 * duty is decided by what is now, not by what changed: the worker looks at the link anew, and what
 * is asked for while a duty is under way is decided once more when it is done.
 *
 * Changing a tap's MAC makes the kernel drop the entry of whoever has that address (br_fdb_changeaddr()).
 * So the offender leaves the bridge, also where it has changed it back already, and the entry is put
 * back: at once by the same job, by the kernel's report that it went, and at the start.
 *
 * Whether a VMM ever held a tap is the kernel's IFLA_CARRIER_UP_COUNT: 0 until somebody other than
 * the creating descriptor attaches. Carrier gone after that means that it was let go. The report of
 * a lost carrier may be a second late (net/core/link_watch.c gathers them), so when a process ends
 * its user's taps are looked at at once. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/worker.h"
#include "bus/events.h"
#include "bus/offenders.h"
#include "bus/peer.h"
#include "common/cleanup.h"
#include "common/failure.h"
#include "link/link-table.h"
#include "link/netlink.h"
#include "link/tap-reaper.h"
#include "link/tap.h"
#include "watch/tap-watch.h"

typedef enum Duty {
        DUTY_UNPLUG,       /* its holder changed its MAC */
        DUTY_PUT_BACK_MAC, /* somebody else did, before there was a holder: systemd-udevd */
        DUTY_KEEP_ENTRY,   /* the entry of its guest-mac may be gone */
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
        bool mac_taken;    /* seen, whatever it is now */
        bool anothers;     /* the address is the guest-mac of another user's tap */
        int victims[4];    /* those whose guest-mac that is; 0: none more. The rest by report */
        unsigned restored; /* of them */
        int result;
        bool acted;
        char name[IFNAMSIZ];
        Failure failure;
} TapJob;

static void unplug_run(TapJob *j, Netlink *nl, const Link *link, bool mac_changed) {
        if (link->master == 0 || link->carrier_up_count == 0 || !(mac_changed || j->mac_taken))
                return;
        j->result = tap_unplug(nl, j->ifindex, &j->failure);
        j->acted = j->result >= 0;
        for (size_t i = 0; j->acted && i < ELEMENTS(j->victims) && j->victims[i] > 0; i++) {
                int r = tap_keep_entry(nl, j->victims[i], &j->failure);

                if (r < 0)
                        j->result = r;
                else
                        j->restored += (unsigned)r;
        }
}

static void auto_delete_run(TapJob *j, Netlink *nl, const Link *link) {
        if (!*link->alias.auto_delete || link->carrier ||
            (link->carrier_up_count == 0 && j->duty != DUTY_CREATOR_GONE))
                return;
        j->result = tap_displace(nl, &j->features, j->ifindex, link->name, j->uid, &j->failure);
        j->acted = j->result >= 0;
}

static void duty_run(Job *job, void *context) {
        TapJob *j = (TapJob *)job;
        Netlink *nl = context;
        bool mac_changed;
        uint8_t mac[6];
        Link link;
        int r;

        r = nl ? netlink_get_link(nl, j->ifindex, NULL, &link) : job->no_context;
        if (r < 0 && r != -ENODEV)
                j->result = failure_kernel(&j->failure, r, nl ? netlink_detail(nl) : NULL,
                                           "Looking up link %d", j->ifindex);
        if (r < 0 || !link_is_our_tap(&link) || link.alias.uid != j->uid)
                return;
        memcpy(j->name, link.name, sizeof(j->name));
        tap_mac(j->ifindex, mac);
        mac_changed = memcmp(mac, link.mac, 6) != 0;
        switch (j->duty) {
        case DUTY_UNPLUG:
                unplug_run(j, nl, &link, mac_changed);
                break;
        case DUTY_PUT_BACK_MAC:
                if (mac_changed && link.carrier_up_count == 0) {
                        j->result = tap_put_back_mac(nl, j->ifindex, &j->failure);
                        j->acted = j->result >= 0;
                }
                break;
        case DUTY_KEEP_ENTRY:
                j->result = tap_keep_entry(nl, j->ifindex, &j->failure);
                j->acted = j->result > 0;
                break;
        case DUTY_AUTO_DELETE:
        case DUTY_CREATOR_GONE:
                auto_delete_run(j, nl, &link);
                break;
        }
}

static void decide(Service *s, LinkEntry *e);
static void submit(Service *s, Duty duty, LinkEntry *e);

static void duty_log(const TapJob *j) {
        static const char *const done[] = {
                [DUTY_UNPLUG] = "left the bridge: its holder changed its MAC",
                [DUTY_PUT_BACK_MAC] = "has its MAC back, which was changed before anybody attached",
                [DUTY_KEEP_ENTRY] = "has the entry of its guest-mac back, which was gone",
                [DUTY_AUTO_DELETE] = "is deleted by itself (auto-delete)",
                [DUTY_CREATOR_GONE] = "is deleted by itself (auto-delete)",
        };

        if (j->result < 0)
                log_of_user(j->uid, LOG_WARNING, "%s", j->failure.text);
        if (j->acted)
                log_of_user(j->uid, LOG_NOTICE, "Tap %s of uid %u %s%s", j->name, j->uid,
                            done[j->duty],
                            j->restored > 0 ? "; its neighbour's entry was put back" : "");
}

static void duty_done(Job *job) {
        TapJob *j = (TapJob *)job;
        Service *s = j->service;
        unsigned bit = 1U << j->duty;
        bool again = false;
        LinkEntry *e;

        duty_log(j);
        if (j->acted && j->anothers)
                offenders_note(s, j->uid);
        e = link_table_by_ifindex(s->links, j->ifindex);
        if (e) { /* first, so that the reports that are read now ask anew */
                again = e->duties_again & bit;
                e->duties &= ~bit;
                e->duties_again &= ~bit;
        }
        link_table_sync(s->links); /* what was displaced goes to the reaper */
        e = link_table_by_ifindex(s->links, j->ifindex);
        if (e && again) {
                if (j->duty == DUTY_KEEP_ENTRY)
                        submit(s, j->duty, e);
                decide(s, e);
        }
        /* what was done once may have been undone at the same time */
        if (j->result < 0 || (j->acted && (j->duty == DUTY_UNPLUG || j->duty == DUTY_KEEP_ENTRY)))
                tap_watch_look_again(s);
        free(j);
}

static void duty_drop(Job *job) {
        free(job);
}

static void find_victims(Service *s, const uint8_t mac[static 6], TapJob *j) {
        size_t n = 0;

        if (!s->links) /* at the start: all entries are looked at in a moment */
                return;
        for (LinkEntry *e = link_table_next(s->links, NULL); e; e = link_table_next(s->links, e))
                if (link_has_guest_mac(&e->link, mac)) {
                        j->anothers = j->anothers || e->link.alias.uid != j->uid;
                        if (n < ELEMENTS(j->victims))
                                j->victims[n++] = e->link.ifindex;
                }
}

/* One of a kind for each tap is enough: it looks for itself. */
static void submit(Service *s, Duty duty, LinkEntry *e) {
        const Link *link = &e->link;
        unsigned bit = 1U << duty;
        TapJob *j;

        if (e->duties & bit) {
                e->duties_again |= bit;
                return;
        }
        j = calloc(1, sizeof(*j));
        if (!j) {
                tap_watch_look_again(s);
                return;
        }
        e->duties |= bit;
        /* what guards others waits for nothing else of that user's */
        *j = (TapJob){.job = {.run = duty_run,
                              .done = duty_done,
                              .drop = duty_drop,
                              .user = duty < DUTY_AUTO_DELETE ? 0 : link->alias.uid},
                      .service = s,
                      .features = s->features,
                      .duty = duty,
                      .ifindex = link->ifindex,
                      .uid = link->alias.uid,
                      .mac_taken = e->mac_taken};
        if (duty == DUTY_UNPLUG)
                find_victims(s, e->mac_taken ? e->taken_mac : link->mac, j);
        worker_submit(s->link_worker, &j->job);
}

static bool was_let_go(const Link *link) {
        return *link->alias.auto_delete && !link->carrier && link->carrier_up_count > 0;
}

/* What a tap needs as it is now, whatever came before. */
static void decide(Service *s, LinkEntry *e) {
        const Link *link = &e->link;
        bool mac_changed;
        uint8_t mac[6];

        if (!link_is_our_tap(link))
                return;
        tap_mac(link->ifindex, mac);
        mac_changed = memcmp(mac, link->mac, 6) != 0;
        if (link->master != 0 && (e->mac_taken || (mac_changed && link->carrier_up_count > 0)))
                submit(s, DUTY_UNPLUG, e);
        if (mac_changed && link->carrier_up_count == 0)
                submit(s, DUTY_PUT_BACK_MAC, e);
        if (was_let_go(link))
                submit(s, DUTY_AUTO_DELETE, e);
}

/* macs NULL: all. */
static void keep_entries(Service *s, const Mac *macs, size_t n) {
        for (LinkEntry *e = link_table_next(s->links, NULL); e; e = link_table_next(s->links, e)) {
                const uint8_t *mac = e->link.alias.guest_mac;

                if (link_has_guest_mac(&e->link, mac) &&
                    (!macs || bsearch(mac, macs, n, sizeof(Mac), mac_compare)))
                        submit(s, DUTY_KEEP_ENTRY, e);
        }
}

void tap_watch_entries_gone(const Mac *macs, size_t n, void *userdata) {
        Service *s = userdata;

        link_table_sync(s->links); /* the tap may be younger than what is known of the links */
        keep_entries(s, macs, n);
}

void tap_watch_reports_lost(void *userdata) {
        Service *s = userdata;

        if (s->links)
                keep_entries(s, NULL, 0);
}

static void reap(Service *s, int ifindex);

static int on_look_again(sd_event_source *source, uint64_t usec, void *userdata) {
        Service *s = userdata;

        s->looks_again = false;
        for (LinkEntry *e = link_table_next(s->links, NULL); e; e = link_table_next(s->links, e)) {
                if (link_is_displaced(&e->link))
                        reap(s, e->link.ifindex);
                decide(s, e);
        }
        keep_entries(s, NULL, 0);
        return 0;
}

void tap_watch_look_again(Service *s) {
        sd_event_source *timer = NULL;

        if (s->looks_again || loop_add_timer(s->event, &timer, USEC_PER_SEC, on_look_again, s) < 0)
                return;
        s->looks_again = sd_event_source_set_floating(timer, true) >= 0;
        sd_event_source_unref(timer);
}

static void reap(Service *s, int ifindex) {
        if (tap_reaper_add(s->reaper, ifindex, NULL, NULL) < 0)
                tap_watch_look_again(s);
}

void tap_watch_link_changed(LinkEntry *e, const Link *before, const Link *after, void *userdata) {
        Service *s = userdata;

        if (e->announced && (!after || !link_is_our_tap(after))) {
                e->announced = false;
                events_tap(s, "TapDeleted", before);
        }
        if (!after)
                return;
        if (link_is_displaced(after) && (!before || !link_is_displaced(before)))
                reap(s, after->ifindex);
        if (!e->announced && link_is_our_tap(after) && link_is_complete(after)) {
                e->announced = true;
                events_tap(s, "TapCreated", after);
        }
        decide(s, e);
}

void tap_watch_start(Service *s) {
        Peer *peer;

        for (LinkEntry *e = link_table_next(s->links, NULL); e; e = link_table_next(s->links, e)) {
                decide(s, e);
                if (link_is_our_tap(&e->link) && *e->link.alias.auto_delete &&
                    e->link.carrier_up_count == 0)
                        (void)peer_get(s, e->link.alias.auto_delete, &peer);
        }
        keep_entries(s, NULL, 0);
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
