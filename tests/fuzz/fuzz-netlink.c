/* SPDX-License-Identifier: MIT */
/* Guards what service/netlink.c reads out of the kernel's messages: nothing beyond a datagram's end,
 * and no answer keeps it for ever. The first byte says who reads. */

#include <sys/socket.h>

#include "../unit/fake-kernel.h"
#include "fuzz.h"
#include "netlink.h"

static void on_link(const Link *link, bool deleted, void *userdata) {
        if (strnlen(link->name, sizeof(link->name)) == sizeof(link->name))
                abort();
}

static void on_address(int ifindex, int family, const void *address, uint8_t prefix, void *userdata) {
        uint8_t copy[16];
        size_t size = family == AF_INET ? 4 : 16;

        memcpy(copy, address, size);
        *(uint8_t *)userdata |= copy[size - 1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static Netlink *nl;
        uint8_t sink = 0;
        Link link;

        if (!nl && netlink_open(&nl) < 0)
                abort();
        if (size < 1)
                return 0;
        fake_reset();
        fake_bytes(data + 1, size - 1);
        fake_bytes(data + 1, (size - 1) / 2);
        switch (data[0] % 6) {
        case 0:
                (void)netlink_get_link(nl, 5, NULL, &link);
                break;
        case 1:
                (void)netlink_dump_links(nl, on_link, NULL);
                break;
        case 2:
                (void)netlink_change_link(nl, &(LinkChange){.ifindex = 5, .up = true});
                break;
        case 3:
                (void)netlink_dump_addresses(nl, AF_INET, on_address, &sink);
                break;
        case 4:
                (void)netlink_delete_link(nl, 5);
                break;
        case 5:
                (void)netlink_read_monitor(nl, on_link, NULL);
                break;
        }
        return 0;
}
