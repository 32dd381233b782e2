/* SPDX-License-Identifier: MIT */
/* The rtnetlink socket, on libmnl. A reply is accepted only with the sequence number and port of
 * the request that waits for it; what is late or strange is passed over, what is cut short is an
 * error. */

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "base/kernel.h"
#include "common/cleanup.h"
#include "link/link-parse.h"
#include "link/netlink-talk.h"

#ifndef NETLINK_GET_STRICT_CHK
#  define NETLINK_GET_STRICT_CHK 12
#endif
#define MONITOR_BUFFER (8 * 1024 * 1024)

struct Netlink {
        struct mnl_socket *socket;
        uint32_t sequence;
        size_t buffer; /* of a monitor: what its socket can hold */
        char detail[160];
        char request[2048];
        char answer[65536]; /* the kernel fills dumps to 32 KiB at most */
};

static int open_socket(uint32_t groups, int flags, Netlink **ret) {
        Netlink *nl = calloc(1, sizeof(*nl));
        int on = 1, r;

        if (!nl)
                return -ENOMEM;
        nl->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | flags);
        if (!nl->socket || mnl_socket_bind(nl->socket, groups, MNL_SOCKET_AUTOPID) < 0) {
                r = -errno;
                netlink_close(nl);
                return r;
        }
        (void)mnl_socket_setsockopt(nl->socket, NETLINK_EXT_ACK, &on, sizeof(on));
        (void)mnl_socket_setsockopt(nl->socket, NETLINK_CAP_ACK, &on, sizeof(on));
        *ret = nl;
        return 0;
}

int netlink_open(Netlink **ret) {
        struct timeval patience = {.tv_sec = 10};
        int r = open_socket(0, 0, ret);

        if (r >= 0)
                (void)setsockopt(netlink_fd(*ret), SOL_SOCKET, SO_RCVTIMEO, &patience,
                                 sizeof(patience));
        return r;
}

int netlink_open_monitor(uint32_t groups, Netlink **ret) {
        socklen_t length = sizeof(int);
        int size = MONITOR_BUFFER, fd, r;

        r = open_socket(groups, SOCK_NONBLOCK, ret);
        if (r < 0)
                return r;
        fd = netlink_fd(*ret);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
        /* the kernel counts twice what was asked for, and more for each report than it is long */
        if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, &length) < 0)
                size = 2 * MONITOR_BUFFER;
        (*ret)->buffer = (size_t)size;
        return 0;
}

void netlink_be_strict(Netlink *nl, bool strict) {
        int on = strict;

        (void)mnl_socket_setsockopt(nl->socket, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
}

void netlink_close(Netlink *nl) {
        if (!nl)
                return;
        if (nl->socket)
                (void)mnl_socket_close(nl->socket);
        free(nl);
}

static int context_open(void **ret) {
        Netlink *nl = NULL;
        int r = netlink_open(&nl);

        if (r >= 0)
                *ret = nl;
        return r;
}

static void context_close(void *context) {
        netlink_close(context);
}

const WorkerContext netlink_context = {.open = context_open, .close = context_close};

int netlink_fd(Netlink *nl) {
        return mnl_socket_get_fd(nl->socket);
}

const char *netlink_detail(Netlink *nl) {
        return nl->detail;
}

struct nlmsghdr *netlink_request(Netlink *nl, uint16_t type, uint16_t flags) {
        struct nlmsghdr *m = mnl_nlmsg_put_header(nl->request);

        m->nlmsg_type = type;
        m->nlmsg_flags = NLM_F_REQUEST | flags;
        m->nlmsg_seq = ++nl->sequence;
        return m;
}

static struct ifinfomsg *put_ifinfo(struct nlmsghdr *m, int ifindex) {
        struct ifinfomsg *info = mnl_nlmsg_put_extra_header(m, sizeof(*info));

        info->ifi_family = AF_UNSPEC;
        info->ifi_index = ifindex;
        return info;
}

/* NLMSGERR_ATTR_MSG, behind the error and, without NETLINK_CAP_ACK, the whole request. */
static void read_extended_ack(Netlink *nl, const struct nlmsghdr *m, const struct nlmsgerr *e) {
        size_t offset = sizeof(*e);
        const struct nlattr *a;

        if (!(m->nlmsg_flags & NLM_F_ACK_TLVS))
                return;
        if (!(m->nlmsg_flags & NLM_F_CAPPED))
                offset += MNL_ALIGN((size_t)e->msg.nlmsg_len) - sizeof(e->msg);
        if (offset > mnl_nlmsg_get_payload_len(m)) /* the int that libmnl computes with would wrap */
                return;
        mnl_attr_for_each(a, m, offset)
                if (mnl_attr_get_type(a) == NLMSGERR_ATTR_MSG &&
                    mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
                        (void)snprintf(nl->detail, sizeof(nl->detail), "%s", mnl_attr_get_str(a));
}

int netlink_talk(Netlink *nl, struct nlmsghdr *request, MessageFunction function, void *userdata) {
        bool dump = (request->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
        bool single = !dump && !(request->nlmsg_flags & NLM_F_ACK);
        ssize_t sent;
        int result = 0;

        nl->detail[0] = '\0';
        sent = kernel.netlink_send(netlink_fd(nl), request, request->nlmsg_len);
        if (sent < 0)
                return (int)sent;
        for (;;) {
                ssize_t n = kernel.netlink_receive(netlink_fd(nl), nl->answer, sizeof(nl->answer));
                const struct nlmsghdr *m = (const struct nlmsghdr *)nl->answer;
                int left = (int)n;

                if (n == -EINTR)
                        continue;
                if (n < 0)
                        return n == -EAGAIN ? -ETIMEDOUT : (int)n;
                if ((size_t)n > sizeof(nl->answer))
                        return -EMSGSIZE;
                for (; message_ok(m, left); m = mnl_nlmsg_next(m, &left)) {
                        if (m->nlmsg_seq != request->nlmsg_seq ||
                            m->nlmsg_pid != mnl_socket_get_portid(nl->socket))
                                continue;
                        if (m->nlmsg_type == NLMSG_ERROR) {
                                const struct nlmsgerr *e = mnl_nlmsg_get_payload(m);

                                if (mnl_nlmsg_get_payload_len(m) < sizeof(*e))
                                        return -EBADMSG;
                                if (e->error < 0)
                                        read_extended_ack(nl, m, e);
                                return e->error;
                        }
                        if (m->nlmsg_flags & NLM_F_DUMP_INTR)
                                result = -EINTR;
                        if (m->nlmsg_type == NLMSG_DONE) {
                                int error = 0; /* of the dump, net/netlink/af_netlink.c */

                                if (mnl_nlmsg_get_payload_len(m) >= sizeof(error))
                                        memcpy(&error, mnl_nlmsg_get_payload(m), sizeof(error));
                                return error < 0 ? error : result;
                        }
                        if (function && (result == 0 || result == -EINTR)) {
                                int r = function(m, userdata);

                                if (r < 0)
                                        result = r;
                        }
                        if (single)
                                return result;
                }
        }
}

/* A dump during which something changed may miss links. */
int netlink_talk_dump(Netlink *nl, struct nlmsghdr *request, MessageFunction function,
                      void *userdata) {
        int r = -EINTR;

        for (int i = 0; i < 8 && r == -EINTR; i++) {
                request->nlmsg_seq = ++nl->sequence;
                r = netlink_talk(nl, request, function, userdata);
        }
        return r == -EINTR ? 0 : r;
}

static int get_one(const struct nlmsghdr *m, void *userdata) {
        return link_parse(m, userdata);
}

int netlink_get_link(Netlink *nl, int ifindex, const char *name, Link *ret) {
        struct nlmsghdr *m = netlink_request(nl, RTM_GETLINK, 0);
        Link link = {};
        int r;

        put_ifinfo(m, ifindex);
        if (ifindex == 0)
                mnl_attr_put_strz(m, IFLA_IFNAME, name);
        mnl_attr_put_u32(m, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        r = netlink_talk(nl, m, get_one, &link);
        if (r >= 0 && link.ifindex > 0)
                *ret = link;
        return r < 0 ? r : link.ifindex > 0 ? 0 : -ENODEV;
}

struct LinkSink {
        LinkFunction function;
        void *userdata;
};

static int sink_link(const struct nlmsghdr *m, void *userdata) {
        struct LinkSink *sink = userdata;
        Link link;

        if (link_parse(m, &link) >= 0)
                sink->function(&link, m->nlmsg_type == RTM_DELLINK, sink->userdata);
        return 0;
}

int netlink_dump_links(Netlink *nl, LinkFunction function, void *userdata) {
        struct LinkSink sink = {function, userdata};
        struct nlmsghdr *m = netlink_request(nl, RTM_GETLINK, NLM_F_DUMP);

        put_ifinfo(m, 0);
        mnl_attr_put_u32(m, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        return netlink_talk_dump(nl, m, sink_link, &sink);
}

int netlink_change_link(Netlink *nl, const LinkChange *c) {
        struct nlmsghdr *m = netlink_request(nl, RTM_NEWLINK,
                                             NLM_F_ACK | (c->ifindex ? 0 : NLM_F_CREATE | NLM_F_EXCL));
        struct ifinfomsg *info = put_ifinfo(m, c->ifindex);

        if (c->up || c->down) {
                info->ifi_change = IFF_UP;
                info->ifi_flags = c->up ? IFF_UP : 0;
        }
        if (c->name)
                mnl_attr_put_strz(m, IFLA_IFNAME, c->name);
        if (c->alias)
                mnl_attr_put(m, IFLA_IFALIAS, strlen(c->alias), c->alias);
        if (c->mac)
                mnl_attr_put(m, IFLA_ADDRESS, 6, c->mac);
        if (c->mtu)
                mnl_attr_put_u32(m, IFLA_MTU, c->mtu);
        if (c->group)
                mnl_attr_put_u32(m, IFLA_GROUP, c->group);
        if (c->master)
                mnl_attr_put_u32(m, IFLA_MASTER,
                                 c->master == LINK_NO_MASTER ? 0 : (uint32_t)c->master);
        if (c->kind) {
                struct nlattr *linkinfo = mnl_attr_nest_start(m, IFLA_LINKINFO);

                mnl_attr_put_strz(m, IFLA_INFO_KIND, c->kind);
                mnl_attr_nest_end(m, linkinfo);
        }
        return netlink_talk(nl, m, NULL, NULL);
}

int netlink_set_port(Netlink *nl, int ifindex, const PortFlags *flags, bool up) {
        struct nlmsghdr *m = netlink_request(nl, RTM_NEWLINK, NLM_F_ACK);
        struct ifinfomsg *info = put_ifinfo(m, ifindex);
        struct nlattr *linkinfo, *data;

        if (up)
                info->ifi_change = info->ifi_flags = IFF_UP;
        linkinfo = mnl_attr_nest_start(m, IFLA_LINKINFO);
        mnl_attr_put_strz(m, IFLA_INFO_SLAVE_KIND, "bridge");
        data = mnl_attr_nest_start(m, IFLA_INFO_SLAVE_DATA);
        mnl_attr_put_u8(m, IFLA_BRPORT_GUARD, 1);   /* a guest's BPDUs stop here */
        mnl_attr_put_u8(m, IFLA_BRPORT_PROTECT, 1); /* root_block: never the way to the root */
        mnl_attr_put_u8(m, IFLA_BRPORT_ISOLATED, flags->isolated);
        if (flags->locked) {
                mnl_attr_put_u8(m, IFLA_BRPORT_LEARNING, 0);
                mnl_attr_put_u8(m, IFLA_BRPORT_LOCKED, 1);
                /* its guest's address is known: what is flooded is for others */
                mnl_attr_put_u8(m, IFLA_BRPORT_UNICAST_FLOOD, 0);
        }
        mnl_attr_nest_end(m, data);
        mnl_attr_nest_end(m, linkinfo);
        return netlink_talk(nl, m, NULL, NULL);
}

int netlink_delete_link(Netlink *nl, int ifindex) {
        struct nlmsghdr *m = netlink_request(nl, RTM_DELLINK, NLM_F_ACK);

        put_ifinfo(m, ifindex);
        return netlink_talk(nl, m, NULL, NULL);
}

int netlink_delete_group(Netlink *nl, uint32_t group) {
        struct nlmsghdr *m = netlink_request(nl, RTM_DELLINK, NLM_F_ACK);

        put_ifinfo(m, 0);
        mnl_attr_put_u32(m, IFLA_GROUP, group);
        return netlink_talk(nl, m, NULL, NULL);
}

int netlink_add_address(Netlink *nl, int ifindex, int family, const void *address, uint8_t prefix) {
        struct nlmsghdr *m = netlink_request(nl, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(m, sizeof(*info));
        size_t size = family == AF_INET ? 4 : 16;

        info->ifa_family = (uint8_t)family;
        info->ifa_prefixlen = prefix;
        info->ifa_index = (uint32_t)ifindex;
        info->ifa_scope = RT_SCOPE_UNIVERSE;
        if (family == AF_INET6)
                info->ifa_flags = IFA_F_NODAD; /* nobody else is on a bridge that is being made */
        mnl_attr_put(m, IFA_LOCAL, size, address);
        mnl_attr_put(m, IFA_ADDRESS, size, address);
        if (family == AF_INET && prefix < 31) {
                uint32_t broadcast;

                memcpy(&broadcast, address, 4);
                broadcast |= htonl((uint32_t)(UINT32_MAX >> prefix));
                mnl_attr_put(m, IFA_BROADCAST, 4, &broadcast);
        }
        return netlink_talk(nl, m, NULL, NULL);
}

struct AddressSink {
        AddressFunction function;
        void *userdata;
};

static int sink_address(const struct nlmsghdr *m, void *userdata) {
        const struct ifaddrmsg *info = mnl_nlmsg_get_payload(m);
        const struct nlattr *a, *found = NULL;
        struct AddressSink *sink = userdata;

        if (m->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(m) < sizeof(*info))
                return 0;
        mnl_attr_for_each(a, m, sizeof(*info))
                if (mnl_attr_get_type(a) == IFA_LOCAL ||
                    (mnl_attr_get_type(a) == IFA_ADDRESS && !found))
                        found = a;
        if (found && mnl_attr_get_payload_len(found) == (info->ifa_family == AF_INET ? 4 : 16))
                sink->function((int)info->ifa_index, info->ifa_family, mnl_attr_get_payload(found),
                               info->ifa_prefixlen, sink->userdata);
        return 0;
}

int netlink_dump_addresses(Netlink *nl, int family, AddressFunction function, void *userdata) {
        struct AddressSink sink = {function, userdata};
        struct nlmsghdr *m = netlink_request(nl, RTM_GETADDR, NLM_F_DUMP);
        struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(m, sizeof(*info));

        info->ifa_family = (uint8_t)family;
        return netlink_talk_dump(nl, m, sink_address, &sink);
}

int netlink_read_monitor(Netlink *nl, MessageFunction function, void *userdata) {
        size_t got = 0;

        while (got < nl->buffer) {
                ssize_t n = kernel.netlink_receive(netlink_fd(nl), nl->answer, sizeof(nl->answer));
                const struct nlmsghdr *m = (const struct nlmsghdr *)nl->answer;
                int left = (int)n;

                if (n == -EINTR)
                        continue;
                if (n < 0)
                        return n == -EAGAIN ? 0 : (int)n;
                if ((size_t)n > sizeof(nl->answer))
                        return -ENOBUFS;
                got += (size_t)n;
                for (; message_ok(m, left); m = mnl_nlmsg_next(m, &left)) {
                        int r = function(m, userdata);

                        if (r < 0)
                                return r;
                }
        }
        return 0;
}
