/* SPDX-License-Identifier: MIT */
/* Next hops and their MACs. Hardly ever has a neighbour the address that a new guest is to have, so
 * the neighbours are looked through first, and the routes only if one has. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "link/gateway.h"

typedef struct Address {
        int family;
        uint8_t bytes[16]; /* IPv4: the first four */
} Address;

typedef struct Search {
        const uint8_t *mac;
        int family; /* of the dump */
        Address *with_mac;
        size_t n;
        bool out_of_memory, found;
} Search;

static Address address_of(int family, const void *bytes) {
        Address a = {.family = family};

        memcpy(a.bytes, bytes, family == AF_INET ? 4 : 16);
        return a;
}

static void on_neighbour(const void *address, const uint8_t mac[static 6], void *userdata) {
        Search *s = userdata;
        Address *more;

        if (memcmp(mac, s->mac, 6) != 0)
                return;
        more = reallocarray(s->with_mac, s->n + 1, sizeof(*more));
        if (!more) {
                s->out_of_memory = true;
                return;
        }
        s->with_mac = more;
        s->with_mac[s->n++] = address_of(s->family, address);
}

static void on_next_hop(int family, const void *address, void *userdata) {
        Address a = address_of(family, address);
        Search *s = userdata;

        for (size_t i = 0; i < s->n; i++)
                if (s->with_mac[i].family == family &&
                    memcmp(s->with_mac[i].bytes, a.bytes, sizeof(a.bytes)) == 0)
                        s->found = true;
}

int gateway_has_mac(Netlink *nl, int bridge, const uint8_t mac[static 6]) {
        static const int families[] = {AF_INET, AF_INET6};
        Search s = {.mac = mac};
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTS(families); i++) {
                s.family = families[i];
                r = netlink_dump_neighbours(nl, bridge, s.family, on_neighbour, &s);
                if (r == -EAFNOSUPPORT)
                        r = 0;
        }
        if (r >= 0 && s.out_of_memory)
                r = -ENOMEM;
        /* the next hop of an IPv4 route may be an IPv6 neighbour */
        for (size_t i = 0; r >= 0 && s.n > 0 && i < ELEMENTS(families); i++)
                r = netlink_dump_next_hops(nl, bridge, families[i], on_next_hop, &s);
        free(s.with_mac);
        return r < 0 ? r : s.found;
}
