/* SPDX-License-Identifier: MIT */
#pragma once

/* What a message of rtnetlink(7) says of a link. Only netlink.c has such messages. */

#include <libmnl/libmnl.h>

#include "netlink.h"

/* -EPROTO for what is no link of the whole system: AF_BRIDGE messages tell of a port only. What the
 * message leaves out, or has in a shape that it should not, is 0. */
int link_parse(const struct nlmsghdr *m, Link *ret);
