/* SPDX-License-Identifier: MIT */
/* Guards what service/link/netlink.c reads out of links, neighbours and addresses, whatever is missing or
 * malformed, and what it asks the kernel for: a bit more or less there changes what is isolated. */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "fake-kernel.h"
#include "link/netlink.h"
#include "unit.h"

static Netlink *nl;

static int begin(void **state) {
        fake_reset();
        return netlink_open(&nl);
}

static int end(void **state) {
        netlink_close(nl);
        return 0;
}

static struct nlmsghdr *put_link(uint16_t type, int ifindex, unsigned flags) {
        struct nlmsghdr *m = fake_message(type, 0);
        struct ifinfomsg *info = mnl_nlmsg_put_extra_header(m, sizeof(*info));

        info->ifi_index = ifindex;
        info->ifi_flags = flags;
        return m;
}

/* A whole tap of ours, as a 6.18 kernel shows it. */
static struct nlmsghdr *put_tap(void) {
        struct nlmsghdr *m = put_link(RTM_NEWLINK, 7, IFF_UP | IFF_BROADCAST);
        struct nlattr *info, *data;

        mnl_attr_put_strz(m, IFLA_IFNAME, "tap0");
        mnl_attr_put_strz(m, IFLA_IFALIAS,
                          "org.banger.FcProc uid=1000 guest-mac=06:00:ac:10:00:02 auto-delete=:1.9");
        mnl_attr_put(m, IFLA_ADDRESS, 6, "\xfe\xfc\x00\x00\x00\x07");
        mnl_attr_put_u32(m, IFLA_MTU, 1400);
        mnl_attr_put_u32(m, IFLA_GROUP, 77);
        mnl_attr_put_u32(m, IFLA_MASTER, 3);
        mnl_attr_put_u8(m, IFLA_CARRIER, 1);
        mnl_attr_put_u32(m, IFLA_CARRIER_UP_COUNT, 2);
        info = mnl_attr_nest_start(m, IFLA_LINKINFO);
        mnl_attr_put_strz(m, IFLA_INFO_KIND, "tun");
        data = mnl_attr_nest_start(m, IFLA_INFO_DATA);
        mnl_attr_put_u8(m, 3 /* IFLA_TUN_TYPE */, 2 /* IFF_TAP */);
        mnl_attr_put_u32(m, 1 /* IFLA_TUN_OWNER */, 1001);
        mnl_attr_put_u8(m, 6 /* IFLA_TUN_PERSIST */, 1);
        mnl_attr_nest_end(m, data);
        mnl_attr_put_strz(m, IFLA_INFO_SLAVE_KIND, "bridge");
        data = mnl_attr_nest_start(m, IFLA_INFO_SLAVE_DATA);
        mnl_attr_put_u8(m, IFLA_BRPORT_ISOLATED, 1);
        mnl_attr_put_u8(m, IFLA_BRPORT_LOCKED, 1);
        mnl_attr_nest_end(m, data);
        mnl_attr_nest_end(m, info);
        return m;
}

static void a_tap(void **state) {
        Link link;

        fake_datagram();
        put_tap();
        assert_int_equal(netlink_get_link(nl, 0, "tap0", &link), 0);
        assert_int_equal(link.ifindex, 7);
        assert_string_equal(link.name, "tap0");
        assert_int_equal(link.kind, LINK_TAP);
        assert_true(link.up && link.carrier && link.persistent && link.isolated && link.locked);
        assert_int_equal(link.carrier_up_count, 2);
        assert_int_equal(link.master, 3);
        assert_int_equal(link.mtu, 1400);
        assert_int_equal(link.group, 77);
        assert_memory_equal(link.mac, "\xfe\xfc\x00\x00\x00\x07", 6);
        assert_int_equal(link.alias.kind, ALIAS_IS_TAP);
        assert_int_equal(link.alias.uid, 1000);
        assert_string_equal(link.alias.auto_delete, ":1.9");
        assert_true(link.alias.has_guest_mac);
        assert_memory_equal(link.alias.guest_mac, "\x06\x00\xac\x10\x00\x02", 6);
        assert_int_equal(link.tun_uid, 1001);
}

static void hardly_anything(void **state) {
        Link link;

        fake_datagram();
        put_link(RTM_NEWLINK, 9, 0);
        assert_int_equal(netlink_get_link(nl, 9, NULL, &link), 0);
        assert_int_equal(link.kind, LINK_OTHER);
        assert_string_equal(link.name, "");
        assert_int_equal(link.tun_uid, UID_NONE);
        assert_int_equal(link.alias.kind, ALIAS_FOREIGN);
        assert_int_equal(link.alias.uid, UID_NONE);
        assert_false(link.up || link.carrier || link.persistent || link.isolated || link.locked);
}

static Link kind_of(const char *kind, int tun_type) {
        struct nlmsghdr *m;
        struct nlattr *info, *data;
        Link link;

        fake_reset();
        fake_datagram();
        m = put_link(RTM_NEWLINK, 9, 0);
        info = mnl_attr_nest_start(m, IFLA_LINKINFO);
        if (tun_type >= 0) { /* before the kind, too: the order is not the kernel's promise */
                data = mnl_attr_nest_start(m, IFLA_INFO_DATA);
                mnl_attr_put_u8(m, 3, (uint8_t)tun_type);
                mnl_attr_nest_end(m, data);
        }
        mnl_attr_put_strz(m, IFLA_INFO_KIND, kind);
        mnl_attr_nest_end(m, info);
        assert_int_equal(netlink_get_link(nl, 9, NULL, &link), 0);
        return link;
}

static void kinds(void **state) {
        assert_int_equal(kind_of("bridge", -1).kind, LINK_BRIDGE);
        assert_int_equal(kind_of("tun", 2).kind, LINK_TAP);
        assert_int_equal(kind_of("tun", 1).kind, LINK_OTHER); /* IFF_TUN: no Ethernet */
        assert_int_equal(kind_of("tun", -1).kind, LINK_OTHER);
        assert_int_equal(kind_of("veth", 2).kind, LINK_OTHER);
        assert_int_equal(kind_of("dummy", -1).kind, LINK_OTHER);
        assert_int_equal(kind_of("", -1).kind, LINK_OTHER);
        assert_int_equal(kind_of("bridges", -1).kind, LINK_OTHER);
}

/* Attributes of another size or without an end are not read. */
static void malformed_attributes(void **state) {
        struct nlmsghdr *m;
        struct nlattr *info;
        Link link;

        fake_datagram();
        m = put_link(RTM_NEWLINK, 9, 0);
        mnl_attr_put(m, IFLA_IFNAME, 4, "tap0");
        mnl_attr_put(m, IFLA_IFALIAS, 26, "org.banger.FcProc uid=1000");
        mnl_attr_put(m, IFLA_ADDRESS, 5, "\xfe\xfc\x00\x00\x00");
        mnl_attr_put(m, IFLA_MTU, 3, "abc");
        mnl_attr_put_u8(m, IFLA_MASTER, 3);
        mnl_attr_put(m, IFLA_CARRIER, 0, "");
        info = mnl_attr_nest_start(m, IFLA_LINKINFO);
        mnl_attr_put(m, IFLA_INFO_KIND, 3, "tun");
        mnl_attr_put(m, IFLA_INFO_SLAVE_DATA, 2, "ab");
        mnl_attr_nest_end(m, info);
        assert_int_equal(netlink_get_link(nl, 9, NULL, &link), 0);
        assert_string_equal(link.name, "");
        assert_int_equal(link.alias.kind, ALIAS_FOREIGN);
        assert_int_equal(link.mtu, 0);
        assert_int_equal(link.master, 0);
        assert_int_equal(link.kind, LINK_OTHER);
        assert_memory_equal(link.mac, "\0\0\0\0\0\0", 6);

        fake_reset(); /* longer than any link's name */
        fake_datagram();
        mnl_attr_put_strz(put_link(RTM_NEWLINK, 9, 0), IFLA_IFNAME, "a-name-of-more-than-fifteen");
        assert_int_equal(netlink_get_link(nl, 9, NULL, &link), 0);
        assert_int_equal(strlen(link.name), IFNAMSIZ - 1);
}

static void no_link(void **state) {
        Link link = {.ifindex = 4711};

        fake_ack(-ENODEV, NULL);
        assert_int_equal(netlink_get_link(nl, 0, "tap0", &link), -ENODEV);
        fake_datagram();
        put_link(RTM_NEWLINK, 0, 0);
        assert_int_equal(netlink_get_link(nl, 0, "tap0", &link), -ENODEV);
        fake_datagram();
        put_link(RTM_NEWADDR, 9, 0);
        assert_true(netlink_get_link(nl, 9, NULL, &link) < 0);
        fake_datagram();
        fake_message(RTM_NEWLINK, 0); /* no payload */
        assert_true(netlink_get_link(nl, 9, NULL, &link) < 0);
        fake_datagram(); /* of a bridge's port, not of the whole link */
        ((struct ifinfomsg *)mnl_nlmsg_get_payload(put_link(RTM_NEWLINK, 9, 0)))->ifi_family = AF_BRIDGE;
        assert_true(netlink_get_link(nl, 9, NULL, &link) < 0);
        assert_int_equal(link.ifindex, 4711); /* written on success only */
}

typedef struct Seen {
        char text[256];
} Seen;

static void on_address(int ifindex, int family, const void *address, uint8_t prefix, void *userdata) {
        char text[INET6_ADDRSTRLEN];
        Seen *seen = userdata;

        assert_int_equal(ifindex, 3);
        assert_non_null(inet_ntop(family, address, text, sizeof(text)));
        (void)snprintf(seen->text + strlen(seen->text), sizeof(seen->text) - strlen(seen->text),
                       "%s/%u ", text, prefix);
}

static void put_address(uint8_t family, uint8_t prefix, const char *local, const char *address,
                        size_t size) {
        struct nlmsghdr *m = fake_message(RTM_NEWADDR, NLM_F_MULTI);
        struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(m, sizeof(*info));
        unsigned char bytes[16];

        info->ifa_family = family;
        info->ifa_prefixlen = prefix;
        info->ifa_index = 3;
        if (address && inet_pton(family, address, bytes) == 1)
                mnl_attr_put(m, IFA_ADDRESS, size, bytes);
        if (local && inet_pton(family, local, bytes) == 1)
                mnl_attr_put(m, IFA_LOCAL, size, bytes);
}

static void addresses(void **state) {
        Seen seen = {};

        fake_datagram();
        put_address(AF_INET, 24, "172.16.0.1", "172.16.0.1", 4);
        put_address(AF_INET, 32, "10.0.0.1", "10.0.0.2", 4); /* point to point: its own is IFA_LOCAL */
        put_address(AF_INET6, 64, NULL, "fd00::1", 16);
        put_address(AF_INET, 24, "10.1.0.1", NULL, 3);
        put_address(AF_INET6, 64, "fd00::2", NULL, 4);
        put_address(AF_INET, 24, NULL, NULL, 4);
        fake_message(RTM_NEWADDR, NLM_F_MULTI);
        fake_done(0, 0);
        assert_int_equal(netlink_dump_addresses(nl, AF_INET, on_address, &seen), 0);
        assert_string_equal(seen.text, "172.16.0.1/24 10.0.0.1/32 fd00::1/64 ");
}

/* --- what is asked for --- */

static const struct nlattr *attribute(unsigned n, size_t header, uint16_t type) {
        const struct nlattr *a;

        mnl_attr_for_each(a, fake_sent(n), header)
                if (mnl_attr_get_type(a) == type)
                        return a;
        return NULL;
}

static const struct nlattr *within(const struct nlattr *nest, uint16_t type) {
        const struct nlattr *a;

        mnl_attr_for_each_nested(a, nest)
                if (mnl_attr_get_type(a) == type)
                        return a;
        return NULL;
}

#define IFI sizeof(struct ifinfomsg)

static void asks_for_a_bridge(void **state) {
        static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};

        fake_ack(0, NULL);
        assert_int_equal(netlink_change_link(nl, &(LinkChange){.kind = "bridge",
                                                               .name = "br0",
                                                               .mac = mac}),
                         0);
        assert_int_equal(fake_sent(0)->nlmsg_type, RTM_NEWLINK);
        assert_int_equal(fake_sent(0)->nlmsg_flags,
                         NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        assert_string_equal(mnl_attr_get_str(attribute(0, IFI, IFLA_IFNAME)), "br0");
        assert_memory_equal(mnl_attr_get_payload(attribute(0, IFI, IFLA_ADDRESS)), mac, 6);
        assert_string_equal(mnl_attr_get_str(within(attribute(0, IFI, IFLA_LINKINFO), IFLA_INFO_KIND)),
                            "bridge");
        assert_null(attribute(0, IFI, IFLA_MASTER));
        assert_null(attribute(0, IFI, IFLA_MTU));
}

static void asks_for_a_displacement(void **state) {
        const struct ifinfomsg *info;

        fake_ack(0, NULL);
        assert_int_equal(netlink_change_link(nl, &(LinkChange){.ifindex = 7,
                                                               .name = "_fcx7",
                                                               .master = LINK_NO_MASTER,
                                                               .down = true}),
                         0);
        info = mnl_nlmsg_get_payload(fake_sent(0));
        assert_int_equal(fake_sent(0)->nlmsg_flags, NLM_F_REQUEST | NLM_F_ACK); /* never makes one */
        assert_int_equal(info->ifi_index, 7);
        assert_int_equal(info->ifi_change, IFF_UP);
        assert_int_equal(info->ifi_flags, 0);
        assert_int_equal(mnl_attr_get_u32(attribute(0, IFI, IFLA_MASTER)), 0);
}

static void asks_for_port_flags(void **state) {
        const struct nlattr *data;

        for (int i = 0; i < 4; i++) {
                bool isolated = i & 1, locked = i & 2;
                const struct ifinfomsg *info;

                fake_reset();
                fake_ack(0, NULL);
                assert_int_equal(netlink_set_port(nl, 7,
                                                  &(PortFlags){.isolated = isolated, .locked = locked},
                                                  isolated),
                                 0);
                info = mnl_nlmsg_get_payload(fake_sent(0));
                assert_int_equal(info->ifi_flags, isolated ? IFF_UP : 0);
                assert_null(attribute(0, IFI, IFLA_MASTER)); /* beside slave data the kernel refuses it */
                data = within(attribute(0, IFI, IFLA_LINKINFO), IFLA_INFO_SLAVE_DATA);
                assert_int_equal(mnl_attr_get_u8(within(data, IFLA_BRPORT_ISOLATED)), isolated);
                assert_int_equal(mnl_attr_get_u8(within(data, IFLA_BRPORT_GUARD)), 1);
                assert_int_equal(mnl_attr_get_u8(within(data, IFLA_BRPORT_PROTECT)), 1);
                assert_int_equal(within(data, IFLA_BRPORT_LOCKED) != NULL, locked);
                assert_int_equal(within(data, IFLA_BRPORT_LEARNING) != NULL, locked);
                assert_int_equal(within(data, IFLA_BRPORT_UNICAST_FLOOD) != NULL, locked);
                if (locked) {
                        assert_int_equal(mnl_attr_get_u8(within(data, IFLA_BRPORT_LOCKED)), 1);
                        assert_int_equal(mnl_attr_get_u8(within(data, IFLA_BRPORT_LEARNING)), 0);
                        assert_int_equal(mnl_attr_get_u8(within(data, IFLA_BRPORT_UNICAST_FLOOD)), 0);
                }
        }
}

static void asks_for_a_sticky_neighbour(void **state) {
        static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
        const struct ndmsg *nd;

        fake_ack(-EEXIST, NULL);
        assert_int_equal(netlink_add_fdb(nl, 7, mac), -EEXIST);
        nd = mnl_nlmsg_get_payload(fake_sent(0));
        /* NLM_F_REPLACE would steal the bridge's own */
        assert_int_equal(fake_sent(0)->nlmsg_flags,
                         NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        assert_int_equal(nd->ndm_flags, NTF_MASTER | 1 << 6);
        assert_int_equal(nd->ndm_state, NUD_NOARP);
        assert_memory_equal(mnl_attr_get_payload(attribute(0, sizeof(*nd), NDA_LLADDR)), mac, 6);
}

static void put_fdb_entry(uint16_t neighbour_state, uint8_t flags) {
        struct ndmsg *nd;

        fake_datagram();
        nd = mnl_nlmsg_put_extra_header(fake_message(RTM_NEWNEIGH, 0), sizeof(*nd));
        nd->ndm_ifindex = 9;
        nd->ndm_state = neighbour_state;
        nd->ndm_flags = flags;
}

static void asks_who_has_an_address(void **state) {
        static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
        const struct ndmsg *nd;
        FdbEntry entry = {};

        put_fdb_entry(NUD_REACHABLE, NTF_MASTER);
        assert_int_equal(netlink_get_fdb(nl, 7, mac, &entry), 0);
        assert_true(entry.port == 9 && !entry.is_static && !entry.own && !entry.sticky);
        nd = mnl_nlmsg_get_payload(fake_sent(0));
        assert_int_equal(nd->ndm_ifindex, 7);
        assert_int_equal(nd->ndm_flags, NTF_MASTER); /* the kernel refuses any other */
        assert_int_equal(nd->ndm_state, 0);
        assert_memory_equal(mnl_attr_get_payload(attribute(0, sizeof(*nd), NDA_LLADDR)), mac, 6);
        put_fdb_entry(NUD_NOARP, NTF_MASTER | 1 << 6);
        assert_int_equal(netlink_get_fdb(nl, 7, mac, &entry), 0);
        assert_true(entry.is_static && !entry.own && entry.sticky);
        put_fdb_entry(NUD_PERMANENT, NTF_MASTER);
        assert_int_equal(netlink_get_fdb(nl, 7, mac, &entry), 0);
        assert_true(!entry.is_static && entry.own && !entry.sticky);
        fake_ack(-ENOENT, NULL);
        assert_int_equal(netlink_get_fdb(nl, 7, mac, &entry), -ENOENT);

        fake_ack(0, NULL);
        assert_int_equal(netlink_take_fdb(nl, 7, mac), 0);
        assert_int_equal(fake_sent(4)->nlmsg_flags,
                         NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE);
}

static void asks_for_deletes(void **state) {
        fake_ack(0, NULL);
        fake_ack(0, NULL);
        assert_int_equal(netlink_delete_link(nl, 7), 0);
        assert_int_equal(fake_sent(0)->nlmsg_type, RTM_DELLINK);
        assert_int_equal(((struct ifinfomsg *)mnl_nlmsg_get_payload(fake_sent(0)))->ifi_index, 7);
        assert_null(attribute(0, IFI, IFLA_GROUP));
        assert_int_equal(netlink_delete_group(nl, 99), 0);
        assert_int_equal(((struct ifinfomsg *)mnl_nlmsg_get_payload(fake_sent(1)))->ifi_index, 0);
        assert_int_equal(mnl_attr_get_u32(attribute(1, IFI, IFLA_GROUP)), 99);
}

static void asks_for_addresses(void **state) {
        struct in6_addr in6 = IN6ADDR_LOOPBACK_INIT;
        uint32_t in = inet_addr("172.16.5.1");

        for (int i = 0; i < 3; i++)
                fake_ack(0, NULL);
        assert_int_equal(netlink_add_address(nl, 3, AF_INET, &in, 20), 0);
        assert_int_equal(mnl_attr_get_u32(attribute(0, sizeof(struct ifaddrmsg), IFA_BROADCAST)),
                         inet_addr("172.16.15.255"));
        assert_int_equal(netlink_add_address(nl, 3, AF_INET, &in, 31), 0);
        assert_null(attribute(1, sizeof(struct ifaddrmsg), IFA_BROADCAST));
        assert_int_equal(netlink_add_address(nl, 3, AF_INET6, &in6, 64), 0);
        assert_null(attribute(2, sizeof(struct ifaddrmsg), IFA_BROADCAST));
        assert_int_equal(mnl_attr_get_payload_len(attribute(2, sizeof(struct ifaddrmsg), IFA_LOCAL)),
                         16);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(a_tap),
                TEST(hardly_anything),
                TEST(kinds),
                TEST(malformed_attributes),
                TEST(no_link),
                TEST(addresses),
                TEST(asks_for_a_bridge),
                TEST(asks_for_a_displacement),
                TEST(asks_for_port_flags),
                TEST(asks_for_a_sticky_neighbour),
                TEST(asks_who_has_an_address),
                TEST(asks_for_deletes),
                TEST(asks_for_addresses),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
