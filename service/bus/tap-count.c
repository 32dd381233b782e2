/* SPDX-License-Identifier: MIT */
/* Counting taps. A job that makes a tap is on its way for a while in which the kernel may have
 * reported the tap already, so jobs and links are matched by name and uid. */

#include <string.h>

#include "bus/tap-count.h"
#include "common/cleanup.h"
#include "link/link-table.h"

static bool is_of(const TapInMaking *m, const char *name, uid_t uid) {
        return (uid == UID_NONE || m->uid == uid) && strcmp(m->name, name) == 0;
}

void tap_making_begin(Service *s, TapInMaking *making) {
        making->again = tap_is_being_made(s, making->name, making->uid);
        LIST_INSERT_HEAD(&s->taps_in_making, making, in_list);
}

void tap_making_end(Service *s, TapInMaking *making) {
        TapInMaking *m, *oldest = NULL;

        LIST_REMOVE(making, in_list);
        LIST_FOREACH(m, &s->taps_in_making, in_list)
                if (is_of(m, making->name, making->uid))
                        oldest = m;
        if (oldest)
                oldest->again = false;
}

bool tap_is_being_made(Service *s, const char *name, uid_t uid) {
        const TapInMaking *m;

        LIST_FOREACH(m, &s->taps_in_making, in_list)
                if (is_of(m, name, uid))
                        return true;
        return false;
}

bool tap_guest_mac_is_taken(Service *s, const uint8_t mac[static 6], const char *name, uid_t uid) {
        const TapInMaking *m;

        LIST_FOREACH(m, &s->taps_in_making, in_list)
                if (m->guest_mac && memcmp(m->guest_mac, mac, 6) == 0 && !is_of(m, name, uid))
                        return true;
        for (LinkEntry *e = link_table_next(s->links, NULL); e; e = link_table_next(s->links, e))
                if (link_has_guest_mac(&e->link, mac) &&
                    !(e->link.alias.uid == uid && strcmp(e->link.name, name) == 0))
                        return true;
        return false;
}

/* A job of its name either brings a tap more, or displaces the one that is there. */
static bool brings_one_more(Service *s, const TapInMaking *m) {
        const LinkEntry *e = m->again ? NULL : link_table_by_name(s->links, m->name);

        return !m->again && !(e && link_is_our_tap(&e->link) && e->link.alias.uid == m->uid);
}

TapCount tap_count(Service *s, uid_t uid) {
        TapCount count = {.taps = link_table_count_taps(s->links, uid),
                          .displaced = link_table_count_displaced(s->links, uid)};
        const TapInMaking *m;

        LIST_FOREACH(m, &s->taps_in_making, in_list)
                if (uid == UID_NONE || m->uid == uid) {
                        if (brings_one_more(s, m))
                                count.taps++;
                        else
                                count.displaced++;
                }
        return count;
}
