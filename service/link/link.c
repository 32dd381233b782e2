/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "link/link.h"

bool link_is_displaced(const Link *link) {
        return link->kind == LINK_TAP && link->alias.kind == ALIAS_IS_TAP &&
               strncmp(link->name, DISPLACED_PREFIX, strlen(DISPLACED_PREFIX)) == 0;
}

bool link_is_our_tap(const Link *link) {
        return link->kind == LINK_TAP && link->alias.kind == ALIAS_IS_TAP && !link_is_displaced(link);
}

bool link_is_complete(const Link *link) {
        return link->persistent || link->carrier_up_count > 0;
}

bool link_has_guest_mac(const Link *link, const uint8_t mac[static 6]) {
        return link_is_our_tap(link) && link->alias.has_guest_mac && link->master != 0 &&
               memcmp(link->alias.guest_mac, mac, 6) == 0;
}

void tap_mac(int ifindex, uint8_t ret[static 6]) {
        /* fe: locally administered, and higher than a guest's, as libvirt does it */
        ret[0] = 0xfe;
        ret[1] = 0xfc;
        ret[2] = (uint8_t)((unsigned)ifindex >> 24);
        ret[3] = (uint8_t)((unsigned)ifindex >> 16);
        ret[4] = (uint8_t)((unsigned)ifindex >> 8);
        ret[5] = (uint8_t)(unsigned)ifindex;
}
