/* SPDX-License-Identifier: MIT */
/* How the bridge is made.
 *
 * The kernel acknowledges an alias in the message that creates a bridge and then ignores it, so a
 * bridge cannot be born marked. It is born under a reserved name, marked, fitted out and renamed;
 * dying at any point leaves a bridge that the next call completes, and never one of the
 * configured name that nobody knows the owner of.
 *
 * Its MAC is set, or it would follow the lowest of its ports' (net/bridge/br_stp_if.c); its MTU is
 * set to another value and back, or a port with a small one would pull it down
 * (br_mtu_auto_adjust()); router advertisements are off before it is up, or a guest could give the
 * host a default route. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include <systemd/sd-id128.h>

#include "link/bridge.h"
#include "link/link-table.h"

#define BRIDGE_MTU 1500
#define BRIDGE_OTHER_MTU 1400

static const sd_id128_t bridge_mac_id = SD_ID128_MAKE(4f, 0b, 5e, 3a, d1, 7c, 4c, 0e, 9b, 6e, 21,
                                                      a8, 0d, 53, f4, 77);

/* The same at each start on the same machine, so that guests' ARP entries stay true. */
static void bridge_mac(const char *name, uint8_t ret[static 6]) {
        sd_id128_t id;

        if (sd_id128_get_machine_app_specific(bridge_mac_id, &id) < 0)
                (void)getrandom(&id, sizeof(id), 0);
        for (size_t i = 0; name[i]; i++)
                id.bytes[i % 4] = (uint8_t)(id.bytes[i % 4] * 31 + name[i]);
        ret[0] = 0x02;
        ret[1] = 0xfc;
        memcpy(ret + 2, id.bytes, 4);
}

static int step_failed(Netlink *nl, const Config *c, int error, const char *step, Failure *f) {
        return failure_kernel(f, error, netlink_detail(nl), "Bridge %s: %s", c->bridge_name, step);
}

struct AddressSearch {
        const Config *config;
        int ifindex;
        bool found;
        char first[INET6_ADDRSTRLEN + 4];
};

static void on_address(int ifindex, int family, const void *address, uint8_t prefix, void *userdata) {
        struct AddressSearch *s = userdata;
        char text[INET6_ADDRSTRLEN];

        if (ifindex != s->ifindex || family != s->config->bridge_family)
                return;
        if (prefix == s->config->cidr &&
            memcmp(address, &s->config->bridge_ip, family == AF_INET ? 4 : 16) == 0)
                s->found = true;
        if (!s->first[0] && inet_ntop(family, address, text, sizeof(text)))
                (void)snprintf(s->first, sizeof(s->first), "%s/%u", text, prefix);
}

static int open_accept_ra(const char *name, int flags) {
        char path[96];
        int fd;

        (void)snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_ra", name);
        fd = open(path, flags | O_CLOEXEC | O_NOCTTY);
        return fd < 0 ? -errno : fd;
}

static bool accepts_ra(const char *name) {
        _cleanup_close_ int fd = open_accept_ra(name, O_RDONLY);
        char value = '0';

        return fd >= 0 && read(fd, &value, 1) == 1 && value != '0';
}

/* 0 too where the kernel has no IPv6. */
static int refuse_ra(const char *name) {
        _cleanup_close_ int fd = open_accept_ra(name, O_WRONLY);

        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;
        return write(fd, "0", 1) == 1 ? 0 : -errno;
}

static int not_a_bridge(const Config *c, Failure *f) {
        return failure_set(f, FAILURE_NOT_OURS,
                           "%s exists and is no bridge; remove it, or set bridge_name in fcproc.conf",
                           c->bridge_name);
}

static int inspect(Netlink *nl, const Config *c, Link *ret_link, struct AddressSearch *ret_search,
                   BridgeState *ret, Failure *f) {
        BridgeState state = {};
        bool ours;
        int r;

        r = netlink_get_link(nl, 0, c->bridge_name, ret_link);
        if (r == -ENODEV) {
                *ret = state;
                return 0;
        }
        if (r < 0)
                return step_failed(nl, c, r, "looking it up", f);
        if (ret_link->kind != LINK_BRIDGE)
                return not_a_bridge(c, f);

        *ret_search = (struct AddressSearch){.config = c, .ifindex = ret_link->ifindex};
        r = netlink_dump_addresses(nl, c->bridge_family, on_address, ret_search);
        if (r < 0)
                return step_failed(nl, c, r, "reading its addresses", f);
        ours = ret_link->alias.kind == ALIAS_IS_BRIDGE;
        state.ifindex = ret_link->ifindex;
        state.complete = ret_link->up &&
                         (!ours || (ret_search->found && !accepts_ra(c->bridge_name)));
        (void)snprintf(state.address, sizeof(state.address), "%s",
                       ours || ret_search->found ? c->bridge_address : ret_search->first);
        *ret = state;
        return 0;
}

int bridge_inspect(Netlink *nl, const Config *config, BridgeState *ret, Failure *f) {
        struct AddressSearch search;
        Link link;

        return inspect(nl, config, &link, &search, ret, f);
}

/* The address, no router advertisements, up: what a bridge of ours needs beyond existing. */
static int complete(Netlink *nl, const Config *c, int ifindex, const char *name, bool has_address,
                    Failure *f) {
        int r = refuse_ra(name);

        if (r < 0)
                return step_failed(nl, c, r, "turning router advertisements off", f);
        if (!has_address) {
                r = netlink_add_address(nl, ifindex, c->bridge_family, &c->bridge_ip, c->cidr);
                if (r < 0 && r != -EEXIST)
                        return step_failed(nl, c, r, "adding its address", f);
        }
        return 0;
}

static int bring_up(Netlink *nl, const Config *c, int ifindex, Failure *f) {
        int r = netlink_change_link(nl, &(LinkChange){.ifindex = ifindex, .up = true});

        return r < 0 ? step_failed(nl, c, r, "bringing it up", f) : 0;
}

/* Makes what is missing of a bridge under the reserved name, and gives it its own name. */
static int make(Netlink *nl, const Config *c, Failure *f) {
        uint8_t mac[6];
        Link link;
        int r;

        bridge_mac(c->bridge_name, mac);
        r = netlink_change_link(nl,
                                &(LinkChange){.kind = "bridge", .name = HALF_MADE_BRIDGE, .mac = mac});
        if (r < 0 && r != -EEXIST)
                return step_failed(nl, c, r, "creating it", f);
        r = netlink_get_link(nl, 0, HALF_MADE_BRIDGE, &link);
        if (r < 0)
                return step_failed(nl, c, r, "looking up what was created", f);
        if (link.kind != LINK_BRIDGE)
                return failure_set(f, FAILURE_NOT_OURS,
                                   "%s, a name reserved for making bridge %s, is taken by something "
                                   "that is no bridge; remove it",
                                   HALF_MADE_BRIDGE, c->bridge_name);
        r = netlink_change_link(nl, &(LinkChange){.ifindex = link.ifindex,
                                                  .alias = ALIAS_BRIDGE,
                                                  .mac = mac});
        if (r < 0)
                return step_failed(nl, c, r, "marking it", f);
        r = netlink_change_link(nl, &(LinkChange){.ifindex = link.ifindex, .mtu = BRIDGE_OTHER_MTU});
        if (r >= 0)
                r = netlink_change_link(nl,
                                        &(LinkChange){.ifindex = link.ifindex, .mtu = BRIDGE_MTU});
        if (r < 0)
                return step_failed(nl, c, r, "pinning its MTU", f);
        r = complete(nl, c, link.ifindex, HALF_MADE_BRIDGE, false, f);
        if (r < 0)
                return r;
        r = netlink_change_link(nl, &(LinkChange){.ifindex = link.ifindex, .name = c->bridge_name});
        if (r == -EEXIST) {
                (void)netlink_delete_link(nl, link.ifindex);
                return 0; /* somebody made one meanwhile: the caller looks again */
        }
        if (r < 0)
                return step_failed(nl, c, r, "giving it its name", f);
        return 0;
}

int bridge_ensure(Netlink *nl, const Config *c, BridgeState *ret, Failure *f) {
        struct AddressSearch search;
        BridgeState state;
        Link link;
        int r;

        r = inspect(nl, c, &link, &search, &state, f);
        if (r < 0)
                return r;
        if (state.ifindex == 0) {
                r = make(nl, c, f);
                if (r < 0)
                        return r;
                r = inspect(nl, c, &link, &search, &state, f);
                if (r < 0)
                        return r;
                if (state.ifindex == 0)
                        return step_failed(nl, c, -ENODEV, "it vanished while it was made", f);
        }
        if (!state.complete) {
                if (link.alias.kind == ALIAS_IS_BRIDGE) {
                        r = complete(nl, c, state.ifindex, c->bridge_name, search.found, f);
                        if (r < 0)
                                return r;
                }
                r = bring_up(nl, c, state.ifindex, f);
                if (r < 0)
                        return r;
        }
        state.complete = true;
        *ret = state;
        return 0;
}

struct PortCount {
        int bridge;
        unsigned ports;
};

static void count_port(const Link *link, bool deleted, void *userdata) {
        struct PortCount *c = userdata;

        if (link->master == c->bridge)
                c->ports++;
}

int bridge_remove(Netlink *nl, const Config *c, Failure *f) {
        struct PortCount count = {};
        Link link;
        int r;

        r = netlink_get_link(nl, 0, c->bridge_name, &link);
        if (r == -ENODEV)
                return failure_set(f, FAILURE_NO_SUCH_BRIDGE,
                                   "There is no bridge %s; nothing to remove", c->bridge_name);
        if (r < 0)
                return step_failed(nl, c, r, "looking it up", f);
        if (link.kind != LINK_BRIDGE || link.alias.kind != ALIAS_IS_BRIDGE)
                return failure_set(f, FAILURE_NOT_OURS,
                                   "%s was not made by this service; whoever made it should remove it",
                                   c->bridge_name);
        count.bridge = link.ifindex;
        r = netlink_dump_links(nl, count_port, &count);
        if (r < 0)
                return step_failed(nl, c, r, "counting its ports", f);
        if (count.ports > 0)
                return failure_set(f, FAILURE_IN_USE, "Bridge %s still has %u port%s",
                                   c->bridge_name, count.ports, count.ports == 1 ? "" : "s");
        r = netlink_delete_link(nl, link.ifindex);
        if (r < 0 && r != -ENODEV)
                return step_failed(nl, c, r, "deleting it", f);
        return 0;
}
