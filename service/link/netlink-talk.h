/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files that speak rtnetlink share. Nobody else includes it. */

#include <libmnl/libmnl.h>

#include "link/netlink.h"

/* A negative errno ends nothing: it becomes the result of the whole conversation. */
typedef int (*MessageFunction)(const struct nlmsghdr *message, void *userdata);

/* message_ok(): mnl_nlmsg_ok() takes a length of 2 GiB and more for a negative one, which fits. */
static inline bool message_ok(const struct nlmsghdr *m, int left) {
        return mnl_nlmsg_ok(m, left) && m->nlmsg_len <= (uint32_t)left;
}

struct nlmsghdr *netlink_request(Netlink *nl, uint16_t type, uint16_t flags);
/* Sends the request and hands every answer to function until the kernel says that it is done. */
int netlink_talk(Netlink *nl, struct nlmsghdr *request, MessageFunction function, void *userdata);
/* The same for a dump, which is taken again where something changed meanwhile. */
int netlink_talk_dump(Netlink *nl, struct nlmsghdr *request, MessageFunction function,
                      void *userdata);
/* From now on the kernel checks requests strictly, and filters dumps by what they name. It may not
 * know how (before Linux 4.20): filter what comes, too. */
void netlink_be_strict(Netlink *nl, bool strict);

/* A socket that joins groups (RTMGRP_*) and does not block. */
int netlink_open_monitor(uint32_t groups, Netlink **ret);
/* Hands on what the monitor has, without waiting, and no more than a full socket buffer: somebody
 * may make reports faster than they are read. -ENOBUFS: something was lost. */
int netlink_read_monitor(Netlink *nl, MessageFunction function, void *userdata);
