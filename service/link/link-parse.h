/* SPDX-License-Identifier: MIT */
#pragma once

/* What a message of rtnetlink(7) says of a link. Only what speaks rtnetlink has
 * such messages. */

#include <libmnl/libmnl.h>

#include "link/link.h"

/* -EPROTO for what is no link of the whole system: AF_BRIDGE messages tell of a port only. What the
 * message leaves out, or has in a shape that it should not, is 0. */
int link_parse(const struct nlmsghdr *m, Link *ret);

/* The little that is looked at in each report of a flood. The same messages are refused. */
typedef struct LinkGlance {
        int ifindex;
        bool deleted;
        uint8_t mac[6];
        uint32_t carrier_up_count;
} LinkGlance;

int link_glance(const struct nlmsghdr *m, LinkGlance *ret);
