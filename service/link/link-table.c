/* SPDX-License-Identifier: MIT */
/* A picture of the host's links that costs no system call to look at: quotas, look-ups of names
 * and lists are answered from it. It decides nothing that the worker does not check again. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/paced.h"
#include "common/cleanup.h"
#include "link/link-reports.h"
#include "link/link-table.h"

#define BUCKETS 1024
#define REST (5 * USEC_PER_MSEC) /* after each gulp of reports */

struct LinkTable {
        LinkReports *reports;
        Netlink *dump;
        Paced *paced;
        LinkChangedFunction on_change;
        LinkReportsLostFunction on_lost;
        void *userdata;
        bool syncing;
        bool has_holes; /* memory was short: the next sync reads all links again */
        LIST_HEAD(, LinkEntry) buckets[BUCKETS], by_name[BUCKETS];
};

LinkEntry *link_table_by_ifindex(LinkTable *t, int ifindex) {
        LinkEntry *e;

        LIST_FOREACH(e, &t->buckets[(unsigned)ifindex % BUCKETS], in_bucket)
                if (e->link.ifindex == ifindex)
                        return e;
        return NULL;
}

LinkEntry *link_table_next(LinkTable *t, LinkEntry *after) {
        unsigned bucket = 0;

        if (after) {
                if (LIST_NEXT(after, in_bucket))
                        return LIST_NEXT(after, in_bucket);
                bucket = (unsigned)after->link.ifindex % BUCKETS + 1;
        }
        for (; bucket < BUCKETS; bucket++)
                if (!LIST_EMPTY(&t->buckets[bucket]))
                        return LIST_FIRST(&t->buckets[bucket]);
        return NULL;
}

static unsigned hash_name(const char *name) {
        unsigned h = 5381;

        for (; *name; name++)
                h = h * 33 + (unsigned char)*name;
        return h % BUCKETS;
}

LinkEntry *link_table_by_name(LinkTable *t, const char *name) {
        LinkEntry *e;

        LIST_FOREACH(e, &t->by_name[hash_name(name)], in_name_bucket)
                if (strcmp(e->link.name, name) == 0)
                        return e;
        return NULL;
}

static unsigned count(LinkTable *t, uid_t uid, bool (*is)(const Link *link)) {
        unsigned n = 0;

        for (LinkEntry *e = link_table_next(t, NULL); e; e = link_table_next(t, e))
                if (is(&e->link) && (uid == UID_NONE || e->link.alias.uid == uid))
                        n++;
        return n;
}

unsigned link_table_count_taps(LinkTable *t, uid_t uid) {
        return count(t, uid, link_is_our_tap);
}

unsigned link_table_count_displaced(LinkTable *t, uid_t uid) {
        return count(t, uid, link_is_displaced);
}

static void remove_entry(LinkTable *t, LinkEntry *e) {
        LIST_REMOVE(e, in_bucket);
        LIST_REMOVE(e, in_name_bucket);
        t->on_change(e, &e->link, NULL, t->userdata);
        free(e);
}

/* What was seen holds until the link has left its bridge: a change back is no excuse. */
static void note_taken_mac(LinkEntry *e, const uint8_t *taken) {
        if (taken)
                memcpy(e->taken_mac, taken, 6);
        e->mac_taken = e->link.master != 0 && (e->mac_taken || taken);
}

static void on_link(const Link *link, bool deleted, const uint8_t *taken, void *userdata) {
        LinkTable *t = userdata;
        LinkEntry *e = link_table_by_ifindex(t, link->ifindex);

        if (deleted) {
                if (e)
                        remove_entry(t, e);
                return;
        }
        if (e) {
                Link before = e->link;

                LIST_REMOVE(e, in_name_bucket);
                e->link = *link;
                note_taken_mac(e, taken);
                LIST_INSERT_HEAD(&t->by_name[hash_name(link->name)], e, in_name_bucket);
                t->on_change(e, &before, link, t->userdata);
                return;
        }
        e = calloc(1, sizeof(*e));
        if (!e) {
                t->has_holes = true;
                return;
        }
        e->link = *link;
        note_taken_mac(e, taken);
        LIST_INSERT_HEAD(&t->buckets[(unsigned)link->ifindex % BUCKETS], e, in_bucket);
        LIST_INSERT_HEAD(&t->by_name[hash_name(link->name)], e, in_name_bucket);
        t->on_change(e, NULL, link, t->userdata);
}

struct Census {
        LinkTable *table;
        int *present;
        size_t n;
        bool incomplete;
};

static void on_census(const Link *link, bool deleted, void *userdata) {
        struct Census *c = userdata;
        int *more = reallocarray(c->present, c->n + 1, sizeof(int));

        if (more) {
                c->present = more;
                c->present[c->n++] = link->ifindex;
        } else
                c->incomplete = true;
        on_link(link, false, NULL, c->table);
}

static int by_number(const void *a, const void *b) {
        return *(const int *)a - *(const int *)b;
}

/* Everything anew: at the start, and when the kernel had to drop reports. */
static int take_census(LinkTable *t) {
        struct Census c = {.table = t};
        int r;

        t->has_holes = false;
        r = netlink_dump_links(t->dump, on_census, &c);
        t->has_holes = t->has_holes || r < 0 || c.incomplete;
        if (r >= 0 && !c.incomplete) {
                LinkEntry *e, *next;

                if (c.n > 0)
                        qsort(c.present, c.n, sizeof(int), by_number);
                for (e = link_table_next(t, NULL); e; e = next) {
                        next = link_table_next(t, e);
                        if (!bsearch(&e->link.ifindex, c.present, c.n, sizeof(int), by_number))
                                remove_entry(t, e);
                }
        }
        free(c.present);
        return r;
}

void link_table_sync(LinkTable *t) {
        int r;

        if (t->syncing) /* called from on_change */
                return;
        t->syncing = true;
        for (int i = 0; i < 4; i++) {
                r = link_reports_read(t->reports, on_link, t);
                if (r != -ENOBUFS && !t->has_holes)
                        break;
                log_message(LOG_WARNING, "Link reports were lost; reading all links again");
                (void)take_census(t);
                t->on_lost(t->userdata);
        }
        t->syncing = false;
}

bool link_table_is_whole(const LinkTable *t) {
        return !t->has_holes;
}

static void on_readable(void *userdata) {
        link_table_sync(userdata);
}

int link_table_new(sd_event *event, LinkChangedFunction on_change, LinkReportsLostFunction on_lost,
                   void *userdata, LinkTable **ret) {
        LinkTable *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;
        t->on_change = on_change;
        t->on_lost = on_lost;
        t->userdata = userdata;
        r = link_reports_new(&t->reports);
        if (r >= 0)
                r = netlink_open(&t->dump);
        if (r >= 0)
                r = paced_new(event, link_reports_fd(t->reports), REST, on_readable, t, &t->paced);
        if (r >= 0)
                r = take_census(t);
        if (r < 0) {
                link_table_free(t);
                return r;
        }
        *ret = t;
        return 0;
}

void link_table_free(LinkTable *t) {
        if (!t)
                return;
        paced_free(t->paced);
        for (unsigned i = 0; i < BUCKETS; i++)
                while (!LIST_EMPTY(&t->buckets[i])) {
                        LinkEntry *e = LIST_FIRST(&t->buckets[i]);

                        LIST_REMOVE(e, in_bucket);
                        free(e);
                }
        link_reports_free(t->reports);
        netlink_close(t->dump);
        free(t);
}
