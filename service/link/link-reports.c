/* SPDX-License-Identifier: MIT */
/* A gulp of reports. Any user who holds a tap can cause a hundred thousand reports a second, so what
 * is done for each of them is little: its link is looked up, and the report is kept in the place of
 * the one before. */

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/queue.h>

#include "common/cleanup.h"
#include "link/link-parse.h"
#include "link/link-reports.h"
#include "link/link.h"
#include "link/netlink-talk.h"

#define BUCKETS 64

/* The newest report of a link. */
typedef struct Report {
        int ifindex;
        bool taken;
        uint8_t taken_mac[6];
        struct nlmsghdr *message;
        size_t capacity;
        STAILQ_ENTRY(Report) in_gulp;
        LIST_ENTRY(Report) in_bucket;
} Report;

STAILQ_HEAD(Gulp, Report);

struct LinkReports {
        Netlink *monitor;
        struct Gulp gulp, spare; /* spare: with their memory, for the next gulp */
        LIST_HEAD(, Report) buckets[BUCKETS];
};

int link_reports_new(LinkReports **ret) {
        LinkReports *r = calloc(1, sizeof(*r));
        int k;

        if (!r)
                return -ENOMEM;
        STAILQ_INIT(&r->gulp);
        STAILQ_INIT(&r->spare);
        k = netlink_open_monitor(RTMGRP_LINK, &r->monitor);
        if (k < 0) {
                free(r);
                return k;
        }
        *ret = r;
        return 0;
}

void link_reports_free(LinkReports *r) {
        Report *report;

        if (!r)
                return;
        STAILQ_CONCAT(&r->spare, &r->gulp);
        while ((report = STAILQ_FIRST(&r->spare))) {
                STAILQ_REMOVE_HEAD(&r->spare, in_gulp);
                free(report->message);
                free(report);
        }
        netlink_close(r->monitor);
        free(r);
}

int link_reports_fd(LinkReports *r) {
        return netlink_fd(r->monitor);
}

/* The link's place in this gulp. */
static Report *report_of(LinkReports *r, int ifindex) {
        Report *report;

        LIST_FOREACH(report, &r->buckets[(unsigned)ifindex % BUCKETS], in_bucket)
                if (report->ifindex == ifindex)
                        return report;
        report = STAILQ_FIRST(&r->spare);
        if (report)
                STAILQ_REMOVE_HEAD(&r->spare, in_gulp);
        else if (!(report = calloc(1, sizeof(*report))))
                return NULL;
        report->ifindex = ifindex;
        report->taken = false;
        STAILQ_INSERT_TAIL(&r->gulp, report, in_gulp);
        LIST_INSERT_HEAD(&r->buckets[(unsigned)ifindex % BUCKETS], report, in_bucket);
        return report;
}

static bool keep(Report *report, const struct nlmsghdr *m) {
        if (report->capacity < m->nlmsg_len) {
                struct nlmsghdr *more = realloc(report->message, m->nlmsg_len);

                if (!more)
                        return false;
                report->message = more;
                report->capacity = m->nlmsg_len;
        }
        memcpy(report->message, m, m->nlmsg_len);
        return true;
}

/* Taking it apart only to find out whether it is ours: a foreign link's MAC is never the one that we
 * would have given it. */
static void look_for_a_taken_mac(Report *report, const LinkGlance *glance, const struct nlmsghdr *m) {
        uint8_t mac[6];
        Link link;

        tap_mac(glance->ifindex, mac);
        if (glance->carrier_up_count == 0 || memcmp(mac, glance->mac, 6) == 0 ||
            link_parse(m, &link) < 0 || !link_is_our_tap(&link) || link.master == 0)
                return;
        report->taken = true;
        memcpy(report->taken_mac, link.mac, 6);
}

static int on_message(const struct nlmsghdr *m, void *userdata) {
        LinkReports *r = userdata;
        LinkGlance glance;
        Report *report;

        if (link_glance(m, &glance) < 0)
                return 0;
        report = report_of(r, glance.ifindex);
        if (!report || !keep(report, m))
                return -ENOBUFS;
        if (!glance.deleted)
                look_for_a_taken_mac(report, &glance, m);
        return 0;
}

int link_reports_read(LinkReports *r, LinkReportFunction function, void *userdata) {
        int k = netlink_read_monitor(r->monitor, on_message, r);
        Report *report;
        Link link;

        while ((report = STAILQ_FIRST(&r->gulp))) {
                STAILQ_REMOVE_HEAD(&r->gulp, in_gulp);
                LIST_REMOVE(report, in_bucket);
                if (report->message && link_parse(report->message, &link) >= 0 &&
                    link.ifindex == report->ifindex)
                        function(&link, report->message->nlmsg_type == RTM_DELLINK,
                                 report->taken ? report->taken_mac : NULL, userdata);
                STAILQ_INSERT_HEAD(&r->spare, report, in_gulp);
        }
        return k;
}
