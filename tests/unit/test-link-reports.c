/* SPDX-License-Identifier: MIT */
/* Guards service/link/link-reports.c: a link that was reported often is handed on once, as it was reported
 * last, and a MAC that its holder had taken for a moment is noticed all the same. Also the reports of
 * bridges' tables. */

#include <errno.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "fake-kernel.h"
#include "link/link-reports.h"
#include "link/link-table.h"
#include "unit.h"

static LinkReports *reports;

static struct {
        unsigned n, deleted, taken;
        int order[16];
        Link last;
        uint8_t taken_mac[6];
} seen;

static void on_report(const Link *link, bool deleted, const uint8_t *taken, void *userdata) {
        seen.order[seen.n++ % ELEMENTS(seen.order)] = link->ifindex;
        seen.deleted += deleted;
        seen.last = *link;
        if (taken) {
                seen.taken++;
                memcpy(seen.taken_mac, taken, 6);
        }
}

static int read_all(void) {
        memset(&seen, 0, sizeof(seen));
        return link_reports_read(reports, on_report, NULL);
}

static int begin(void **state) {
        fake_reset();
        return link_reports_new(&reports);
}

static int end(void **state) {
        link_reports_free(reports);
        return 0;
}

typedef struct Shape {
        const char *name, *alias;
        const uint8_t *mac; /* NULL: the one that we give */
        uint32_t carrier_up_count;
        int master;
        bool foreign_kind;
} Shape;

static struct nlmsghdr *put(int ifindex, const Shape *s) {
        struct nlmsghdr *m = fake_message(RTM_NEWLINK, 0);
        struct ifinfomsg *info = mnl_nlmsg_put_extra_header(m, sizeof(*info));
        struct nlattr *linkinfo, *data;
        uint8_t mac[6];

        info->ifi_index = ifindex;
        tap_mac(ifindex, mac);
        mnl_attr_put_strz(m, IFLA_IFNAME, s->name ?: "tap0");
        mnl_attr_put_u32(m, IFLA_CARRIER_UP_COUNT, s->carrier_up_count);
        mnl_attr_put(m, IFLA_ADDRESS, 6, s->mac ?: mac);
        mnl_attr_put_strz(m, IFLA_IFALIAS, s->alias ?: "org.banger.FcProc uid=1000");
        if (s->master >= 0)
                mnl_attr_put_u32(m, IFLA_MASTER, s->master > 0 ? (uint32_t)s->master : 3);
        linkinfo = mnl_attr_nest_start(m, IFLA_LINKINFO);
        mnl_attr_put_strz(m, IFLA_INFO_KIND, s->foreign_kind ? "veth" : "tun");
        data = mnl_attr_nest_start(m, IFLA_INFO_DATA);
        mnl_attr_put_u8(m, 3 /* IFLA_TUN_TYPE */, 2 /* IFF_TAP */);
        mnl_attr_nest_end(m, data);
        mnl_attr_nest_end(m, linkinfo);
        return m;
}

static void put_alone(int ifindex, const Shape *s) {
        fake_datagram();
        (void)put(ifindex, s);
}

static const uint8_t other[6] = {2, 0xfc, 0, 0, 0, 0x0b}, another[6] = {2, 0xfc, 0, 0, 0, 0x0c};

/* They come unasked: sequence and port mean nothing there. */
static void strange_reports(void **state) {
        assert_int_equal(read_all(), 0);
        assert_int_equal(seen.n, 0);
        fake_datagram();
        put(1, &(Shape){})->nlmsg_seq = 99;
        put(2, &(Shape){})->nlmsg_pid = 99;
        fake_receive_error(-EINTR);
        fake_datagram();
        put(3, &(Shape){})->nlmsg_type = RTM_NEWADDR;
        put(4, &(Shape){})->nlmsg_type = RTM_DELLINK;
        fake_datagram(); /* of a bridge's port, not of the whole link */
        ((struct ifinfomsg *)mnl_nlmsg_get_payload(put(5, &(Shape){})))->ifi_family = AF_BRIDGE;
        fake_datagram();
        (void)fake_message(RTM_NEWLINK, 0);
        assert_int_equal(read_all(), 0);
        assert_int_equal(seen.n, 3);
        assert_int_equal(seen.deleted, 1);
}

static void lost_reports(void **state) {
        put_alone(7, &(Shape){});
        fake_receive_error(-ENOBUFS);
        put_alone(8, &(Shape){});
        assert_int_equal(read_all(), -ENOBUFS);
        assert_int_equal(seen.n, 1); /* what was read is handed on */
        assert_int_equal(read_all(), 0);
        assert_int_equal(seen.n, 1);
        put_alone(7, &(Shape){});
        fake_oversize();
        assert_int_equal(read_all(), -ENOBUFS);
}

static void the_newest_counts(void **state) {
        put_alone(7, &(Shape){.name = "tap0"});
        put_alone(8, &(Shape){.name = "tap1"});
        put_alone(7, &(Shape){.name = "a-longer-name"});
        put_alone(7 + 64, &(Shape){.name = "tap2"}); /* the same bucket */
        put_alone(7, &(Shape){.name = "fc0"});
        assert_int_equal(read_all(), 0);
        assert_int_equal(seen.n, 3);
        assert_int_equal(seen.order[0], 7);
        assert_int_equal(seen.order[1], 8);
        assert_int_equal(seen.order[2], 7 + 64);

        put_alone(7, &(Shape){.name = "tap0"});
        put_alone(7, &(Shape){.name = "fc0"});
        assert_int_equal(read_all(), 0);
        assert_int_equal(seen.n, 1);
        assert_string_equal(seen.last.name, "fc0");
        assert_int_equal(seen.taken, 0);

        put_alone(7, &(Shape){});
        fake_datagram();
        put(7, &(Shape){})->nlmsg_type = RTM_DELLINK;
        assert_int_equal(read_all(), 0);
        assert_int_equal(seen.n, 1);
        assert_int_equal(seen.deleted, 1);
}

/* Bad, and good again before anybody looked. */
static void a_taken_mac(void **state) {
        const Shape good = {.carrier_up_count = 1}, bad = {.carrier_up_count = 1, .mac = other},
                    worse = {.carrier_up_count = 1, .mac = another};
        uint8_t mac[6];

        put_alone(7, &good);
        put_alone(7, &bad);
        put_alone(7, &worse);
        put_alone(7, &good);
        put_alone(8, &good);
        assert_int_equal(read_all(), 0);
        assert_int_equal(seen.n, 2);
        assert_int_equal(seen.taken, 1);
        assert_memory_equal(seen.taken_mac, another, 6);

        put_alone(7, &good); /* it is not remembered here */
        assert_int_equal(read_all(), 0);
        assert_int_equal(seen.taken, 0);
        tap_mac(7, mac);
        assert_memory_equal(seen.last.mac, mac, 6);
}

static void no_evidence(void **state) {
        const Shape shapes[] = {
                {.mac = other},                                              /* never held */
                {.mac = other, .carrier_up_count = 1, .master = -1},         /* on no bridge */
                {.mac = other, .carrier_up_count = 1, .alias = "mine"},      /* not ours */
                {.mac = other, .carrier_up_count = 1, .foreign_kind = true}, /* no tap */
                {.mac = other, .carrier_up_count = 1, .name = DISPLACED_PREFIX "7"}, /* to go */
        };

        for (size_t i = 0; i < ELEMENTS(shapes); i++) {
                put_alone(7, &shapes[i]);
                assert_int_equal(read_all(), 0);
                assert_int_equal(seen.n, 1);
                assert_int_equal(seen.taken, 0);
        }
}

/* --- bridges' tables --- */

static unsigned gone;

static void on_gone(const uint8_t mac[static 6], void *userdata) {
        assert_memory_equal(mac, other, 6);
        gone++;
}

static void put_neighbour(uint16_t type, uint8_t family, size_t size) {
        struct nlmsghdr *m = fake_message(type, 0);
        struct ndmsg *nd = mnl_nlmsg_put_extra_header(m, sizeof(*nd));

        nd->ndm_family = family;
        nd->ndm_state = NUD_NOARP;
        mnl_attr_put(m, NDA_LLADDR, size, other);
}

static void entries_that_go(void **state) {
        Netlink *m;

        gone = 0;
        assert_int_equal(netlink_open_fdb_monitor(&m), 0);
        fake_datagram();
        put_neighbour(RTM_DELNEIGH, AF_BRIDGE, 6);
        put_neighbour(RTM_NEWNEIGH, AF_BRIDGE, 6);
        put_neighbour(RTM_DELNEIGH, AF_INET, 6);
        put_neighbour(RTM_DELNEIGH, AF_BRIDGE, 5);
        (void)fake_message(RTM_DELNEIGH, 0);
        put_neighbour(RTM_DELNEIGH, AF_BRIDGE, 6);
        assert_int_equal(netlink_read_fdb_monitor(m, on_gone, NULL), 0);
        assert_int_equal(gone, 2);
        fake_receive_error(-ENOBUFS);
        assert_int_equal(netlink_read_fdb_monitor(m, on_gone, NULL), -ENOBUFS);
        netlink_close(m);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(strange_reports), TEST(lost_reports), TEST(the_newest_counts),
                TEST(a_taken_mac),     TEST(no_evidence),  TEST(entries_that_go),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
