/* SPDX-License-Identifier: MIT */
/* doctor: whether this host forwards packets, and what that means for guests. */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"
#include "i18n.h"

Result check_forward(Doctor *d) {
        char v4[8] = "0", v6[8] = "0";

        (void)read_line("/proc/sys/net/ipv4/ip_forward", v4, sizeof(v4));
        (void)read_line("/proc/sys/net/ipv6/conf/all/forwarding", v6, sizeof(v6));
        if (*v4 == '1' || *v6 == '1') {
                say(d, _("Packets are forwarded (IPv4 %s, IPv6 %s)"),
                    *v4 == '1' ? _("yes") : _("no"), *v6 == '1' ? _("yes") : _("no"));
                return RESULT_OK;
        }
        say(d, _("Packets are not forwarded: guests reach this host only"));
        next(d, _("If they are to reach more: sysctl net.ipv4.ip_forward=1, and a route or NAT"));
        return RESULT_WARN;
}

/* For IPv4 where the packet comes in decides, for IPv6 the whole host (or, from Linux 6.17, a switch of
 * the link's own). What a bridge that is not there yet will have is "default". */
static bool forwards(Doctor *d) {
        const char *bridge = d->bridge ?: "default";
        char path[128], v4[8] = "0", v6[8] = "0", forced[8] = "0";

        (void)snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/forwarding", bridge);
        if (!read_line(path, v4, sizeof(v4)))
                (void)read_line("/proc/sys/net/ipv4/conf/default/forwarding", v4, sizeof(v4));
        (void)read_line("/proc/sys/net/ipv6/conf/all/forwarding", v6, sizeof(v6));
        (void)snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/force_forwarding", bridge);
        (void)read_line(path, forced, sizeof(forced));
        return *v4 != '0' || *v6 != '0' || *forced != '0';
}

/* The rule that is shipped, for this bridge. Only root can look; what else keeps guests apart is not known. */
static bool isolation_rule_is_loaded(Doctor *d) {
        static const char *const list[] = {"/usr/sbin/nft",    "list",    "chain", "inet",
                                           "fcproc_isolation", "forward", NULL};
        char text[2048], rule[128];

        if (geteuid() != 0 || !d->bridge || !read_output(list, text, sizeof(text)))
                return false;
        (void)snprintf(rule, sizeof(rule), "iifname \"%s\" oifname \"%s\" ", d->bridge, d->bridge);
        return strstr(text, rule) && strstr(text, " drop\n");
}

Result check_isolation(Doctor *d) {
        if (!forwards(d)) {
                say(d, _("Packets of guests are not forwarded: isolated guests stay apart"));
                return RESULT_OK;
        }
        if (isolation_rule_is_loaded(d)) {
                say(d,
                    _("Packets are forwarded, but not from guest to guest: the rule that is shipped is loaded"));
                return RESULT_OK;
        }
        say(d,
            _("Packets are forwarded: isolated guests reach each other through this host, unless a rule stops it"));
        if (geteuid() == 0)
                next(d, _("The rule that is shipped does: nft -f %s"), ISOLATION_RULE);
        else
                next(d,
                     _("Only root can see rules: sudo fcprocctl doctor. One is shipped: sudo nft -f %s"),
                     ISOLATION_RULE);
        return RESULT_WARN;
}
