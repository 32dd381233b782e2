/* SPDX-License-Identifier: MIT */
/* Neighbours and routes over rtnetlink: entries of a bridge's forwarding table, the addresses that
 * the host knows of its neighbours, and the next hops of its routes. */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "link/netlink-talk.h"

#ifndef NTF_STICKY
#  define NTF_STICKY (1 << 6)
#endif

/* --- a bridge's forwarding table --- */

static struct ndmsg *put_fdb(struct nlmsghdr *m, int port, const uint8_t mac[static 6]) {
        struct ndmsg *nd = mnl_nlmsg_put_extra_header(m, sizeof(*nd));

        nd->ndm_family = AF_BRIDGE;
        nd->ndm_ifindex = port;
        nd->ndm_flags = NTF_MASTER;
        mnl_attr_put(m, NDA_LLADDR, 6, mac);
        return nd;
}

static int set_fdb(Netlink *nl, int port, const uint8_t mac[static 6], uint16_t how) {
        struct nlmsghdr *m = netlink_request(nl, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | how);
        struct ndmsg *nd = put_fdb(m, port, mac);

        nd->ndm_state = NUD_NOARP; /* "static": it does not age */
        nd->ndm_flags |= NTF_STICKY;
        return netlink_talk(nl, m, NULL, NULL);
}

int netlink_add_fdb(Netlink *nl, int port, const uint8_t mac[static 6]) {
        return set_fdb(nl, port, mac, NLM_F_EXCL);
}

int netlink_take_fdb(Netlink *nl, int port, const uint8_t mac[static 6]) {
        return set_fdb(nl, port, mac, NLM_F_REPLACE);
}

static int read_entry(const struct nlmsghdr *m, void *userdata) {
        const struct ndmsg *nd = mnl_nlmsg_get_payload(m);

        if (m->nlmsg_type != RTM_NEWNEIGH || mnl_nlmsg_get_payload_len(m) < sizeof(*nd))
                return -EPROTO;
        *(FdbEntry *)userdata = (FdbEntry){.port = nd->ndm_ifindex,
                                           .own = nd->ndm_state & NUD_PERMANENT,
                                           .is_static = nd->ndm_state & NUD_NOARP,
                                           .sticky = nd->ndm_flags & NTF_STICKY};
        return 0;
}

int netlink_get_fdb(Netlink *nl, int port, const uint8_t mac[static 6], FdbEntry *ret) {
        struct nlmsghdr *m = netlink_request(nl, RTM_GETNEIGH, 0);
        FdbEntry entry = {};
        int r;

        (void)put_fdb(m, port, mac);
        r = netlink_talk(nl, m, read_entry, &entry);
        if (r >= 0)
                *ret = entry;
        return r;
}

/* Only the ends of entries that no frame makes: a guest that sends from a million addresses fills
 * the table with others, and ends them as it likes. */
static int attach_filter(int fd) {
        struct sock_filter code[] = {
                BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELNEIGH), 0, 5),
                BPF_STMT(BPF_LD | BPF_B | BPF_ABS, NLMSG_HDRLEN + offsetof(struct ndmsg, ndm_family)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_BRIDGE, 0, 3),
                BPF_STMT(BPF_LD | BPF_H | BPF_ABS, NLMSG_HDRLEN + offsetof(struct ndmsg, ndm_state)),
                BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, htons(NUD_PERMANENT | NUD_NOARP), 0, 1),
                BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
                BPF_STMT(BPF_RET | BPF_K, 0),
        };
        struct sock_fprog program = {.len = ELEMENTS(code), .filter = code};

        return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno
                                                                                           : 0;
}

int netlink_open_fdb_monitor(Netlink **ret) {
        Netlink *nl;
        int r = netlink_open_monitor(RTMGRP_NEIGH, &nl);

        if (r < 0)
                return r;
        r = attach_filter(netlink_fd(nl));
        if (r < 0) {
                netlink_close(nl);
                return r;
        }
        *ret = nl;
        return 0;
}

struct FdbSink {
        FdbGoneFunction function;
        void *userdata;
};

static int sink_gone(const struct nlmsghdr *m, void *userdata) {
        const struct ndmsg *nd = mnl_nlmsg_get_payload(m);
        struct FdbSink *sink = userdata;
        const struct nlattr *a;

        if (m->nlmsg_type != RTM_DELNEIGH || mnl_nlmsg_get_payload_len(m) < sizeof(*nd) ||
            nd->ndm_family != AF_BRIDGE)
                return 0;
        mnl_attr_for_each(a, m, sizeof(*nd))
                if (mnl_attr_get_type(a) == NDA_LLADDR && mnl_attr_get_payload_len(a) == 6)
                        sink->function(mnl_attr_get_payload(a), sink->userdata);
        return 0;
}

int netlink_read_fdb_monitor(Netlink *nl, FdbGoneFunction function, void *userdata) {
        struct FdbSink sink = {function, userdata};

        return netlink_read_monitor(nl, sink_gone, &sink);
}

/* --- neighbours and next hops --- */

static size_t address_size(int family) {
        return family == AF_INET ? 4 : 16;
}

struct NeighbourSink {
        int ifindex, family;
        NeighbourFunction function;
        void *userdata;
};

static int sink_neighbour(const struct nlmsghdr *m, void *userdata) {
        const struct nlattr *a, *address = NULL, *mac = NULL;
        const struct ndmsg *nd = mnl_nlmsg_get_payload(m);
        struct NeighbourSink *sink = userdata;

        if (m->nlmsg_type != RTM_NEWNEIGH || mnl_nlmsg_get_payload_len(m) < sizeof(*nd) ||
            nd->ndm_family != sink->family || nd->ndm_ifindex != sink->ifindex)
                return 0;
        mnl_attr_for_each(a, m, sizeof(*nd)) {
                if (mnl_attr_get_type(a) == NDA_DST &&
                    mnl_attr_get_payload_len(a) == address_size(sink->family))
                        address = a;
                if (mnl_attr_get_type(a) == NDA_LLADDR && mnl_attr_get_payload_len(a) == 6)
                        mac = a;
        }
        if (address && mac)
                sink->function(mnl_attr_get_payload(address), mnl_attr_get_payload(mac),
                               sink->userdata);
        return 0;
}

int netlink_dump_neighbours(Netlink *nl, int ifindex, int family, NeighbourFunction function,
                            void *userdata) {
        struct NeighbourSink sink = {ifindex, family, function, userdata};
        struct nlmsghdr *m = netlink_request(nl, RTM_GETNEIGH, NLM_F_DUMP);
        struct ndmsg *nd = mnl_nlmsg_put_extra_header(m, sizeof(*nd));
        int r;

        nd->ndm_family = (uint8_t)family;
        mnl_attr_put_u32(m, NDA_IFINDEX, (uint32_t)ifindex);
        netlink_be_strict(nl, true);
        r = netlink_talk_dump(nl, m, sink_neighbour, &sink);
        netlink_be_strict(nl, false);
        return r;
}

struct HopSink {
        int ifindex;
        NextHopFunction function;
        void *userdata;
};

/* RTA_GATEWAY is of the route's own family, RTA_VIA says of which it is. */
static void sink_hop(struct HopSink *sink, int family, const struct nlattr *a) {
        const struct rtvia *via = mnl_attr_get_payload(a);
        size_t size = mnl_attr_get_payload_len(a);

        if (mnl_attr_get_type(a) == RTA_GATEWAY && size == address_size(family))
                sink->function(family, mnl_attr_get_payload(a), sink->userdata);
        if (mnl_attr_get_type(a) == RTA_VIA && size > sizeof(*via) &&
            (via->rtvia_family == AF_INET || via->rtvia_family == AF_INET6) &&
            size == sizeof(*via) + address_size(via->rtvia_family))
                sink->function(via->rtvia_family, via->rtvia_addr, sink->userdata);
}

static void sink_multipath(struct HopSink *sink, int family, const struct nlattr *paths) {
        const char *p = mnl_attr_get_payload(paths);
        size_t left = mnl_attr_get_payload_len(paths), size;
        const struct rtnexthop *hop = (const struct rtnexthop *)p;
        const struct nlattr *attr; /* libmnl's macro wants this name */

        while (left >= sizeof(*hop) && hop->rtnh_len >= sizeof(*hop) && hop->rtnh_len <= left) {
                if (hop->rtnh_ifindex == sink->ifindex)
                        mnl_attr_for_each_payload((const void *)(hop + 1),
                                                  hop->rtnh_len - sizeof(*hop))
                                sink_hop(sink, family, attr);
                size = MNL_ALIGN(hop->rtnh_len);
                if (size >= left)
                        return;
                left -= size;
                p += size;
                hop = (const struct rtnexthop *)p;
        }
}

static int sink_route(const struct nlmsghdr *m, void *userdata) {
        const struct rtmsg *route = mnl_nlmsg_get_payload(m);
        struct HopSink *sink = userdata;
        const struct nlattr *a;
        int out = 0;

        if (m->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(m) < sizeof(*route))
                return 0;
        mnl_attr_for_each(a, m, sizeof(*route)) {
                if (mnl_attr_get_type(a) == RTA_OIF && mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
                        out = (int)mnl_attr_get_u32(a);
                if (mnl_attr_get_type(a) == RTA_MULTIPATH)
                        sink_multipath(sink, route->rtm_family, a);
        }
        if (out == sink->ifindex)
                mnl_attr_for_each(a, m, sizeof(*route))
                        sink_hop(sink, route->rtm_family, a);
        return 0;
}

int netlink_dump_next_hops(Netlink *nl, int ifindex, int family, NextHopFunction function,
                           void *userdata) {
        struct HopSink sink = {ifindex, function, userdata};
        struct nlmsghdr *m = netlink_request(nl, RTM_GETROUTE, NLM_F_DUMP);
        struct rtmsg *route = mnl_nlmsg_put_extra_header(m, sizeof(*route));
        int r;

        route->rtm_family = (uint8_t)family;
        mnl_attr_put_u32(m, RTA_OIF, (uint32_t)ifindex);
        netlink_be_strict(nl, true);
        r = netlink_talk_dump(nl, m, sink_route, &sink);
        netlink_be_strict(nl, false);
        return r;
}
