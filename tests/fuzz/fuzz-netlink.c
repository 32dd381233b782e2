/* SPDX-License-Identifier: MIT */
/* Guards what service/link/netlink.c reads out of the kernel's messages: nothing beyond a datagram's end,
 * and no answer keeps it for ever. The first byte says who reads. */

#include <sys/socket.h>

#include "../unit/fake-kernel.h"
#include "fuzz.h"
#include "link/link-reports.h"
#include "link/netlink.h"

static void on_link(const Link *link, bool deleted, void *userdata) {
        if (strnlen(link->name, sizeof(link->name)) == sizeof(link->name))
                abort();
}

static void on_report(const Link *link, bool deleted, const uint8_t *taken, void *userdata) {
        on_link(link, deleted, userdata);
}

static void on_gone(const uint8_t mac[static 6], void *userdata) {
        uint8_t copy[6];

        memcpy(copy, mac, 6);
        *(uint8_t *)userdata |= copy[5];
}

static void on_neighbour(const void *address, const uint8_t mac[static 6], void *userdata) {
        uint8_t copy[16];

        memcpy(copy, address, 16);
        *(uint8_t *)userdata |= copy[15];
        on_gone(mac, userdata);
}

static void on_next_hop(int family, const void *address, void *userdata) {
        uint8_t copy[16];
        size_t size = family == AF_INET ? 4 : 16;

        memcpy(copy, address, size);
        *(uint8_t *)userdata |= copy[size - 1];
}

static void on_address(int ifindex, int family, const void *address, uint8_t prefix, void *userdata) {
        uint8_t copy[16];
        size_t size = family == AF_INET ? 4 : 16;

        memcpy(copy, address, size);
        *(uint8_t *)userdata |= copy[size - 1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static Netlink *nl, *entries;
        static LinkReports *reports;
        uint8_t sink = 0;
        Link link;

        if (!nl && (netlink_open(&nl) < 0 || link_reports_new(&reports) < 0 ||
                    netlink_open_fdb_monitor(&entries) < 0))
                abort();
        if (size < 1)
                return 0;
        fake_reset();
        fake_bytes(data + 1, size - 1);
        fake_bytes(data + 1, (size - 1) / 2);
        switch (data[0] % 8) {
        case 0:
                (void)netlink_get_link(nl, 5, NULL, &link);
                break;
        case 1:
                (void)netlink_dump_links(nl, on_link, NULL);
                break;
        case 2:
                (void)netlink_dump_neighbours(nl, 5, AF_INET6, on_neighbour, &sink);
                break;
        case 3:
                (void)netlink_dump_addresses(nl, AF_INET, on_address, &sink);
                break;
        case 4:
                (void)netlink_delete_link(nl, 5);
                break;
        case 5:
                (void)link_reports_read(reports, on_report, NULL);
                break;
        case 6:
                (void)netlink_read_fdb_monitor(entries, on_gone, &sink);
                break;
        case 7:
                (void)netlink_dump_next_hops(nl, 5, AF_INET, on_next_hop, &sink);
                break;
        }
        return 0;
}
