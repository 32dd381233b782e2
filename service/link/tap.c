/* SPDX-License-Identifier: MIT */
/* How a tap is made and unmade.
 *
 * Until TUNSETPERSIST, which comes last, a tap lives and dies with the descriptor that made it:
 * whatever fails, and however this process ends, nothing stays. IFF_TUN_EXCL makes "create" mean
 * create, or a privileged opener would attach to anybody's tap (drivers/net/tun.c).
 *
 * Deleting a link makes the kernel wait for every reader of it, some 15 ms; a group of links
 * shares one wait. So a tap that is to go is displaced at once, which is cheap, and deleted in a
 * batch of those that wait. */

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>

#include "base/log.h"
#include "common/validate.h"
#include "link/gateway.h"
#include "link/tap.h"

static int step_failed(Netlink *nl, const char *tap, int error, const char *step, Failure *f) {
        return failure_kernel(f, error, nl ? netlink_detail(nl) : NULL, "Tap %s: %s", tap, step);
}

static int displace_link(Netlink *nl, const Features *features, const Link *link, Failure *f) {
        char name[IFNAMSIZ];
        LinkChange change = {.ifindex = link->ifindex,
                             .name = name,
                             .master = LINK_NO_MASTER,
                             .down = true};
        int r = 0;

        (void)snprintf(name, sizeof(name), DISPLACED_PREFIX "%x", (unsigned)link->ifindex);
        if (!features->live_rename) { /* before Linux 6.2 a link that is up cannot be renamed */
                change.name = NULL;
                r = netlink_change_link(nl, &change);
                change = (LinkChange){.ifindex = link->ifindex, .name = name};
        }
        if (r >= 0)
                r = netlink_change_link(nl, &change);
        if (r < 0 && r != -ENODEV)
                return step_failed(nl, link->name, r, "taking it out of use", f);
        return 0;
}

static int another_owner(const Link *link, Failure *f) {
        return failure_set(f, FAILURE_ACCESS_DENIED,
                           "Tap %s belongs to uid %u and is not replaced; choose another name, or have it deleted",
                           link->name, link->alias.uid);
}

static int not_ours(const Link *link, Failure *f) {
        return failure_set(f, FAILURE_NOT_OURS,
                           "%s exists and was not made by this service; choose another name",
                           link->name);
}

/* Makes room for spec's name. */
static int displace_namesake(Netlink *nl, const Features *features, const TapSpec *spec,
                             TapMade *made, Failure *f) {
        Link old;
        int r;

        r = netlink_get_link(nl, 0, spec->name, &old);
        if (r == -ENODEV)
                return 0;
        if (r < 0)
                return step_failed(nl, spec->name, r, "looking up its name", f);
        if (!link_is_our_tap(&old))
                return not_ours(&old, f);
        if (old.alias.uid != spec->owner)
                return another_owner(&old, f);
        r = displace_link(nl, features, &old, f);
        if (r < 0)
                return r;
        made->displaced = old.ifindex;
        return 0;
}

static int find_bridge(Netlink *nl, const TapSpec *spec, Link *ret, Failure *f) {
        int r = netlink_get_link(nl, 0, spec->bridge, ret);

        if (r == -ENODEV)
                return failure_set(f, FAILURE_NO_SUCH_BRIDGE, "There is no bridge %s for tap %s",
                                   spec->bridge, spec->name);
        if (r < 0)
                return step_failed(nl, spec->name, r, "looking up its bridge", f);
        if (ret->kind != LINK_BRIDGE)
                return failure_set(f, FAILURE_NO_SUCH_BRIDGE,
                                   "%s, which should be the bridge for tap %s, is none; see bridge_name in "
                                   "fcproc.conf",
                                   spec->bridge, spec->name);
        if (spec->mtu > ret->mtu)
                return failure_set(f, FAILURE_INVALID_ARGS,
                                   "mtu %u is more than that of bridge %s; give %d to %u",
                                   spec->mtu, spec->bridge, TAP_MTU_MIN, ret->mtu);
        return 0;
}

/* A new tap that goes with the returned descriptor. -EBUSY, -EEXIST: the name is taken. */
static int open_tap(const TapSpec *spec) {
        _cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL};
        int r;

        if (fd < 0)
                return -errno;
        memcpy(ifr.ifr_name, spec->name, sizeof(ifr.ifr_name));
        r = kernel.tun_ioctl(fd, TUNSETIFF, (unsigned long)&ifr);
        if (r >= 0)
                r = kernel.tun_ioctl(fd, TUNSETOWNER, spec->tun_uid);
        if (r >= 0 && spec->tun_gid != (gid_t)-1)
                r = kernel.tun_ioctl(fd, TUNSETGROUP, spec->tun_gid);
        return r < 0 ? r : TAKE_FD(fd);
}

int tap_guest_mac_in_use(const TapSpec *spec, Failure *f) {
        char text[18];

        mac_format(spec->guest_mac, text);
        return failure_set(f, FAILURE_IN_USE,
                           "guest-mac %s of tap %s is in use on bridge %s; choose another", text,
                           spec->name, spec->bridge);
}

/* What can be said of guest_mac before anything is made. */
static int check_guest_mac(Netlink *nl, const Features *features, const TapSpec *spec, int bridge,
                           TapMade *made, Failure *f) {
        char text[18];
        int r;

        if (!features->locked_port)
                return failure_set(f, FAILURE_NOT_SUPPORTED,
                                   "This kernel has no locked bridge ports (Linux 5.18), which guest-mac of "
                                   "tap %s needs; create it without",
                                   spec->name);
        if (spec->may_be_gateways)
                return 0;
        r = gateway_has_mac(nl, bridge, spec->guest_mac);
        if (r < 0)
                return step_failed(nl, spec->name, r, "looking for a gateway with its guest-mac", f);
        if (r == 0)
                return 0;
        made->gateways_mac = true;
        mac_format(spec->guest_mac, text);
        return failure_set(f, FAILURE_ACCESS_DENIED,
                           "guest-mac %s of tap %s is that of a gateway on bridge %s; choose another",
                           text, spec->name, spec->bridge);
}

/* 1: it had to be changed.
 *
 * A learning port that sends from the address makes an entry of its own while ours is away. It also
 * can take a new one with it in the moment before that is sticky (br_fdb_update() looks at the bit
 * without a lock), which is sticky on the wrong port then; to move it back is final. */
static int keep_entry(Netlink *nl, int port, const uint8_t mac[static 6]) {
        bool changed = false;
        FdbEntry entry;
        int r;

        for (int i = 0; i < 4; i++) {
                r = netlink_get_fdb(nl, port, mac, &entry);
                if (r < 0 && r != -ENOENT)
                        return r;
                if (r >= 0 && entry.port == port && entry.sticky)
                        return changed;
                /* somebody's own MAC, who will be unplugged; what an administrator has put elsewhere */
                if (r >= 0 && (entry.own || (entry.is_static && !entry.sticky)))
                        return changed;
                r = r == -ENOENT ? netlink_add_fdb(nl, port, mac) : netlink_take_fdb(nl, port, mac);
                if (r < 0 && r != -EEXIST)
                        return r;
                changed = changed || r >= 0;
        }
        return changed;
}

static int set_guest_mac(Netlink *nl, const TapSpec *spec, int ifindex, Failure *f) {
        Link port;
        int r;

        /* An older kernel ignores an attribute that it does not know: ask back. */
        r = netlink_get_link(nl, ifindex, NULL, &port);
        if (r < 0)
                return step_failed(nl, spec->name, r, "reading its port flags", f);
        if (!port.locked)
                return failure_set(f, FAILURE_NOT_SUPPORTED,
                                   "This kernel has no locked bridge ports (Linux 5.18), which guest-mac of "
                                   "tap %s needs; create it without",
                                   spec->name);
        r = netlink_add_fdb(nl, ifindex, spec->guest_mac);
        if (r == -EEXIST)
                return tap_guest_mac_in_use(spec, f);
        if (r >= 0)
                r = keep_entry(nl, ifindex, spec->guest_mac);
        return r < 0 ? step_failed(nl, spec->name, r, "entering guest-mac", f) : 0;
}

/* Plugs the new tap in: master and alias first, then the port's flags and up, see netlink.h. */
static int plug_in(Netlink *nl, const TapSpec *spec, int ifindex, const Link *bridge, Failure *f) {
        char alias[ALIAS_MAX];
        uint8_t mac[6];
        int r;

        if (!alias_format_tap(spec->owner, spec->has_guest_mac ? spec->guest_mac : NULL,
                              spec->auto_delete, alias))
                return failure_set(f, FAILURE_INVALID_ARGS,
                                   "Tap %s: this connection's name cannot be kept in an alias; create it "
                                   "without auto-delete",
                                   spec->name);
        tap_mac(ifindex, mac);
        r = netlink_change_link(nl, &(LinkChange){.ifindex = ifindex,
                                                  .master = bridge->ifindex,
                                                  .alias = alias,
                                                  .mac = mac,
                                                  .mtu = spec->mtu ?: bridge->mtu});
        if (r < 0)
                return step_failed(nl, spec->name, r, "adding it to its bridge", f);
        r = netlink_set_port(nl, ifindex,
                             &(PortFlags){.isolated = spec->isolated, .locked = spec->has_guest_mac},
                             !spec->has_guest_mac);
        if (r < 0)
                return step_failed(nl, spec->name, r, "setting its port flags", f);
        if (spec->has_guest_mac) {
                r = set_guest_mac(nl, spec, ifindex, f);
                if (r < 0)
                        return r;
                r = netlink_change_link(nl, &(LinkChange){.ifindex = ifindex, .up = true});
                if (r < 0)
                        return step_failed(nl, spec->name, r, "bringing it up", f);
        }
        return 0;
}

/* A bridge that was not made by us may follow its smallest port; give it back what it had. */
static void restore_bridge_mtu(Netlink *nl, const Link *bridge) {
        Link now;

        if (netlink_get_link(nl, bridge->ifindex, NULL, &now) >= 0 && now.mtu != bridge->mtu)
                (void)netlink_change_link(nl, &(LinkChange){.ifindex = bridge->ifindex,
                                                            .mtu = bridge->mtu});
}

int tap_create(Netlink *nl, const Features *features, const TapSpec *spec, TapMade *ret, Failure *f) {
        _cleanup_close_ int fd = -1;
        struct ifreq ifr = {};
        Link bridge, link;
        int r;

        *ret = (TapMade){};
        r = find_bridge(nl, spec, &bridge, f);
        if (r >= 0 && spec->has_guest_mac)
                r = check_guest_mac(nl, features, spec, bridge.ifindex, ret, f);
        if (r < 0)
                return r;
        fd = open_tap(spec); /* most names are new: look for a namesake only when there is one */
        if (fd == -EBUSY || fd == -EEXIST || fd == -EINVAL) {
                r = displace_namesake(nl, features, spec, ret, f);
                if (r < 0)
                        return r;
                fd = open_tap(spec);
        }
        if (fd < 0)
                return step_failed(NULL, spec->name, fd,
                                   fd == -ENOENT || fd == -ENODEV
                                           ? "opening /dev/net/tun (is the tun module loaded?)"
                                           : "creating it",
                                   f);
        r = kernel.tun_ioctl(fd, TUNGETIFF, (unsigned long)&ifr);
        if (r >= 0)
                r = netlink_get_link(nl, 0, ifr.ifr_name, &link);
        if (r < 0)
                return step_failed(nl, spec->name, r, "looking up what was created", f);
        r = plug_in(nl, spec, link.ifindex, &bridge, f);
        if (r < 0)
                return r;
        if (spec->mtu && spec->mtu < bridge.mtu && bridge.alias.kind != ALIAS_IS_BRIDGE)
                restore_bridge_mtu(nl, &bridge);
        r = kernel.tun_ioctl(fd, TUNSETPERSIST, 1);
        if (r < 0)
                return step_failed(NULL, spec->name, r, "making it stay", f);
        ret->ifindex = link.ifindex;
        return 0;
}

int tap_displace(Netlink *nl, const Features *features, int ifindex, const char *name, uid_t owner,
                 Failure *f) {
        Link link;
        int r;

        r = netlink_get_link(nl, ifindex, NULL, &link);
        if (r == -ENODEV || (r >= 0 && link_is_displaced(&link)))
                return failure_set(f, FAILURE_NO_SUCH_TAP,
                                   "There is no tap %s any more; nothing to delete", name);
        if (r < 0)
                return step_failed(nl, name, r, "looking it up", f);
        if (!link_is_our_tap(&link) || link.alias.uid != owner)
                return not_ours(&link, f);
        return displace_link(nl, features, &link, f);
}

struct GroupCheck {
        const int *ifindexes;
        size_t n, ours;
        uint32_t group;
        bool foreign;
};

static void check_member(const Link *link, bool deleted, void *userdata) {
        struct GroupCheck *c = userdata;

        if (link->group != c->group)
                return;
        for (size_t i = 0; i < c->n; i++)
                if (c->ifindexes[i] == link->ifindex && link_is_displaced(link)) {
                        c->ours++;
                        return;
                }
        c->foreign = true;
}

static int delete_one(Netlink *nl, int ifindex, Failure *f) {
        Link link = {};
        int r = netlink_get_link(nl, ifindex, NULL, &link);

        /* it is called by its number: the name that it has now is a reserved one */
        if (r >= 0 && !link_is_displaced(&link))
                return failure_set(f, FAILURE_NOT_OURS,
                                   "Link %d was a tap to be deleted, and an administrator has taken it "
                                   "over; they should delete it",
                                   ifindex);
        if (r >= 0)
                r = netlink_delete_link(nl, ifindex);
        if (r < 0 && r != -ENODEV)
                return failure_kernel(f, r, netlink_detail(nl),
                                      "Link %d: deleting it, which was a tap", ifindex);
        return 0;
}

/* Puts them into a group that nothing else is in, and makes sure. A group delete takes whatever
 * is in the group. */
static bool gather(Netlink *nl, const int *ifindexes, size_t n, uint32_t *ret_group) {
        struct GroupCheck check = {.ifindexes = ifindexes, .n = n};

        if (getrandom(&check.group, sizeof(check.group), 0) != sizeof(check.group) || check.group == 0)
                return false;
        for (size_t i = 0; i < n; i++) {
                int r = netlink_change_link(nl, &(LinkChange){.ifindex = ifindexes[i],
                                                              .group = check.group});

                if (r < 0 && r != -ENODEV) /* it would be left out, and called deleted */
                        return false;
        }
        if (netlink_dump_links(nl, check_member, &check) < 0 || check.foreign || check.ours == 0)
                return false;
        *ret_group = check.group;
        return true;
}

int taps_delete(Netlink *nl, const int *ifindexes, size_t n, Failure *f) {
        uint32_t group;
        int r = 0;

        if (n > 1 && gather(nl, ifindexes, n, &group) && netlink_delete_group(nl, group) >= 0)
                return 0;
        for (size_t i = 0; i < n; i++) {
                int k = delete_one(nl, ifindexes[i], f);

                if (k < 0)
                        r = k;
        }
        return r;
}

int tap_unplug(Netlink *nl, int ifindex, Failure *f) {
        int r = netlink_change_link(nl, &(LinkChange){.ifindex = ifindex,
                                                      .master = LINK_NO_MASTER,
                                                      .down = true});

        if (r < 0 && r != -ENODEV)
                return failure_kernel(f, r, netlink_detail(nl), "Taking link %d off its bridge",
                                      ifindex);
        return 0;
}

int tap_keep_entry(Netlink *nl, int ifindex, Failure *f) {
        Link link;
        int r;

        r = netlink_get_link(nl, ifindex, NULL, &link);
        if (r == -ENODEV)
                return 0;
        if (r < 0)
                return failure_kernel(f, r, netlink_detail(nl), "Looking up link %d", ifindex);
        if (!link_is_our_tap(&link) || !link.alias.has_guest_mac || link.master == 0)
                return 0;
        r = keep_entry(nl, ifindex, link.alias.guest_mac);
        if (r < 0)
                return step_failed(nl, link.name, r, "putting back the entry of its guest-mac", f);
        return r;
}

int tap_put_back_mac(Netlink *nl, int ifindex, Failure *f) {
        uint8_t mac[6];
        int r;

        tap_mac(ifindex, mac);
        r = netlink_change_link(nl, &(LinkChange){.ifindex = ifindex, .mac = mac});
        if (r < 0 && r != -ENODEV)
                return failure_kernel(f, r, netlink_detail(nl), "Putting back the MAC of link %d",
                                      ifindex);
        return 0;
}
