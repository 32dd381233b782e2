/* SPDX-License-Identifier: MIT */
/* Guards tap.c and bridge.c against a kernel that refuses any one step, or whose answer to it is lost:
 * the failure names object and step, and nothing half-made stays or is claimed. */

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "faulty-kernel.h"
#include "link/bridge.h"
#include "link/link-table.h"
#include "link/tap.h"
#include "unit.h"

static const int errors[] = {-EPERM, -ENOMEM, -EOPNOTSUPP, -ENOBUFS};

static Netlink *nl;
static Features features;
static Config config = {.bridge_name = "br-fc",
                        .bridge_family = AF_INET,
                        .cidr = 24,
                        .bridge_address = "172.16.0.1/24"};

static const TapSpec plain = {.name = "tap0",
                              .bridge = "br-fc",
                              .owner = 1000,
                              .tun_uid = 1000,
                              .tun_gid = (gid_t)-1,
                              .isolated = true};

static TapSpec full(void) {
        TapSpec spec = plain;

        spec.tun_gid = 1000;
        spec.has_guest_mac = true;
        memcpy(spec.guest_mac, "\x02\x00\x00\x00\x00\x05", 6);
        spec.mtu = 1400;
        (void)strcpy(spec.auto_delete, ":1.7");
        return spec;
}

typedef struct Census {
        unsigned n, taps, displaced, half_made;
        int ifindexes[64];
} Census;

static void count_link(const Link *link, bool deleted, void *userdata) {
        Census *c = userdata;

        c->taps += link->kind == LINK_TAP;
        c->displaced += link_is_displaced(link);
        c->half_made += strcmp(link->name, HALF_MADE_BRIDGE) == 0;
        if (c->n < ELEMENTS(c->ifindexes))
                c->ifindexes[c->n++] = link->ifindex;
}

static Census census(void) {
        Census c = {};

        faulty_set(0, 0, FAULT_BEFORE);
        assert_int_equal(netlink_dump_links(nl, count_link, &c), 0);
        return c;
}

static int clean(void **state) {
        Census c = census();

        for (unsigned i = 0; i < c.n; i++)
                if (c.ifindexes[i] != 1)
                        (void)netlink_delete_link(nl, c.ifindexes[i]);
        return 0;
}

static int with_bridge(void **state) {
        BridgeState bridge;
        Failure f;

        (void)clean(state);
        return bridge_ensure(nl, &config, &bridge, &f);
}

/* A failure is of the kind that the error stands for, and its text names object and step. */
static void assert_told(const Failure *f, int r, int error, const char *object) {
        assert_int_equal(r, -(int)f->kind);
        if (error == -ENOMEM) {
                assert_int_equal(f->kind, FAILURE_NO_MEMORY);
                return;
        }
        assert_int_equal(f->kind,
                         error == -EOPNOTSUPP ? FAILURE_NOT_SUPPORTED : FAILURE_KERNEL_REFUSED);
        assert_non_null(strstr(f->text, object));
        assert_non_null(strstr(f->text, strerrordesc_np(-error)));
        assert_true(strchr(f->text, ':') != strrchr(f->text, ':')); /* "Tap tap0: the step: why" */
}

/* Fails step after step until all succeed; returns how many there were. */
static unsigned create_with_faults(const TapSpec *spec, FaultPlace place, bool replaces) {
        unsigned steps = 0;
        char told[16][200];

        for (size_t e = 0; e < ELEMENTS(errors); e++)
                for (unsigned n = 1;; n++) {
                        TapMade made = {.ifindex = 4711};
                        Census after;
                        Failure f;
                        Link link;
                        int r;

                        (void)with_bridge(NULL);
                        if (replaces)
                                assert_int_equal(tap_create(nl, &features, spec, &made, &f), 0);
                        faulty_set(n, errors[e], place);
                        r = tap_create(nl, &features, spec, &made, &f);
                        if (faulty_count() < n) {
                                assert_int_equal(r, 0);
                                steps = n - 1;
                                break;
                        }
                        if (r == 0) /* what failed was only a look at what is optional */
                                continue;
                        assert_told(&f, r, errors[e], "tap0");
                        assert_true(n <= ELEMENTS(told));
                        (void)snprintf(told[n - 1], sizeof(told[0]), "%.199s", f.text);
                        assert_int_equal(made.ifindex, 0);
                        after = census();
                        assert_int_equal(after.half_made, 0);
                        if (netlink_get_link(nl, 0, "tap0", &link) == 0) {
                                /* only the old one, whole; where it takes two steps, maybe out of use */
                                assert_true(replaces && made.displaced == 0);
                                assert_true(link_is_our_tap(&link) && link.persistent);
                                assert_true(!features.live_rename || (link.up && link.master > 0));
                                assert_int_equal(after.taps, 1);
                        } else if (replaces) {
                                /* the old one waits for its delete; lost answers leave it to the link table */
                                assert_int_equal(after.taps, after.displaced);
                                assert_int_equal(after.displaced, 1);
                                assert_true(made.displaced > 0 || place == FAULT_AFTER);
                        } else
                                assert_int_equal(after.taps, 0);
                }
        return steps;
}

static void every_step_of_a_plain_tap(void **state) {
        /* the bridge; TUNSETIFF, OWNER, GETIFF; its look; master, port; PERSIST */
        assert_int_equal(create_with_faults(&plain, FAULT_BEFORE, false), 8);
}

static void every_step_of_a_full_tap(void **state) {
        TapSpec spec = full();

        /* and the group, the neighbours by IPv4 and IPv6, the port flags read back, the entry
         * and a look at it, up */
        assert_int_equal(create_with_faults(&spec, FAULT_BEFORE, false), 15);
}

static void every_answer_lost(void **state) {
        TapSpec spec = full();

        assert_int_equal(create_with_faults(&spec, FAULT_AFTER, false), 15);
}

static void every_step_of_a_replacement(void **state) {
        assert_true(create_with_faults(&plain, FAULT_BEFORE, true) >= 11);
        assert_true(create_with_faults(&plain, FAULT_AFTER, true) >= 11);
}

/* As on Linux before 6.2: down first, then the name. */
static void every_step_of_an_old_replacement(void **state) {
        features.live_rename = false;
        assert_true(create_with_faults(&plain, FAULT_BEFORE, true) >= 12);
        features.live_rename = true;
}

static void every_step_of_a_bridge(void **state) {
        for (size_t e = 0; e < ELEMENTS(errors); e++)
                for (int place = 0; place < 2; place++)
                        for (unsigned n = 1;; n++) {
                                BridgeState bridge = {.ifindex = 4711};
                                Failure f;
                                Link link;
                                int r;

                                (void)clean(NULL);
                                faulty_set(n, errors[e], (FaultPlace)place);
                                r = bridge_ensure(nl, &config, &bridge, &f);
                                if (faulty_count() < n) {
                                        assert_int_equal(r, 0);
                                        assert_true(n > 8);
                                        break;
                                }
                                assert_told(&f, r, errors[e], "br-fc");
                                assert_int_equal(bridge.ifindex, 4711);
                                /* under its own name only with the mark; else reserved, and not up */
                                faulty_set(0, 0, FAULT_BEFORE);
                                if (netlink_get_link(nl, 0, "br-fc", &link) == 0)
                                        assert_int_equal(link.alias.kind, ALIAS_IS_BRIDGE);
                                else if (netlink_get_link(nl, 0, HALF_MADE_BRIDGE, &link) == 0)
                                        assert_false(link.up);
                                /* the next call completes it */
                                assert_int_equal(bridge_ensure(nl, &config, &bridge, &f), 0);
                                assert_true(bridge.complete);
                                assert_string_equal(bridge.address, "172.16.0.1/24");
                                assert_int_equal(netlink_get_link(nl, 0, "br-fc", &link), 0);
                                assert_true(link.up && link.kind == LINK_BRIDGE && link.mtu == 1500);
                                assert_int_equal(census().half_made, 0);
                        }
}

static void every_step_of_deletes(void **state) {
        for (size_t batch = 1; batch <= 3; batch++)
                for (size_t e = 0; e < ELEMENTS(errors); e++)
                        for (unsigned n = 1;; n++) {
                                int ifindexes[3], foreign;
                                unsigned left;
                                TapSpec other = plain;
                                TapMade made;
                                Failure f;
                                Link link;
                                int r;

                                (void)with_bridge(NULL);
                                for (size_t i = 0; i < batch; i++) {
                                        assert_int_equal(tap_create(nl, &features, &plain, &made, &f),
                                                         0);
                                        ifindexes[i] = made.ifindex;
                                        assert_int_equal(tap_displace(nl, &features, made.ifindex,
                                                                      "tap0", 1000, &f),
                                                         0);
                                }
                                (void)strcpy(other.name, "fc-stays");
                                assert_int_equal(tap_create(nl, &features, &other, &made, &f), 0);
                                foreign = made.ifindex;

                                faulty_set(n, errors[e], FAULT_BEFORE);
                                r = taps_delete(nl, ifindexes, batch, &f);
                                if (r < 0)
                                        assert_told(&f, r, errors[e], "");
                                left = census().displaced;
                                assert_int_equal(left > 0,
                                                 r < 0); /* one that is left is not called gone */
                                assert_int_equal(netlink_get_link(nl, foreign, NULL, &link), 0);
                                assert_int_equal(taps_delete(nl, ifindexes, batch, &f), 0);
                                assert_int_equal(census().displaced, 0);
                                faulty_set(n, errors[e], FAULT_BEFORE);
                                (void)taps_delete(nl, ifindexes, batch, &f);
                                if (faulty_count() < n)
                                        break;
                        }
}

static void displaces_only_what_was_meant(void **state) {
        TapMade made;
        Failure f;
        Link link;

        assert_int_equal(tap_create(nl, &features, &plain, &made, &f), 0);
        assert_int_equal(tap_displace(nl, &features, made.ifindex, "tap0", 1001, &f),
                         -FAILURE_NOT_OURS);
        assert_int_equal(netlink_get_link(nl, 0, "tap0", &link), 0);
        assert_int_equal(tap_displace(nl, &features, made.ifindex + 1000, "tap0", 1000, &f),
                         -FAILURE_NO_SUCH_TAP);
        assert_int_equal(tap_displace(nl, &features, 1, "lo", 1000, &f), -FAILURE_NOT_OURS);
        /* displaced by another call meanwhile: gone, and its reserved name is nobody's business */
        assert_int_equal(tap_displace(nl, &features, made.ifindex, "tap0", 1000, &f), 0);
        assert_int_equal(tap_displace(nl, &features, made.ifindex, "tap0", 1000, &f),
                         -FAILURE_NO_SUCH_TAP);
        assert_non_null(strstr(f.text, "no tap tap0"));
        assert_null(strstr(f.text, DISPLACED_PREFIX));
        assert_int_equal(tap_create(nl, &features, &plain, &made, &f), 0);
        /* a tap that is not displaced is not deleted, alone or in a group */
        assert_int_equal(taps_delete(nl, &made.ifindex, 1, &f), -FAILURE_NOT_OURS);
        assert_int_equal(taps_delete(nl, (int[]){made.ifindex, 1}, 2, &f), -FAILURE_NOT_OURS);
        assert_int_equal(netlink_get_link(nl, 0, "tap0", &link), 0);
}

static unsigned gone;

static void on_gone(const uint8_t mac[static 6], void *userdata) {
        gone += memcmp(mac, "\x02\x00\x00\x00\x00\x05", 6) == 0;
}

/* Makes an entry as a frame would, and ends it. */
static void learn_and_forget(int port, uint16_t type) {
        struct mnl_socket *socket = mnl_socket_open(NETLINK_ROUTE);
        char buffer[256];
        struct nlmsghdr *m = mnl_nlmsg_put_header(buffer);
        struct ndmsg *nd;

        assert_non_null(socket);
        m->nlmsg_type = type;
        m->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | (type == RTM_NEWNEIGH ? NLM_F_CREATE : 0);
        nd = mnl_nlmsg_put_extra_header(m, sizeof(*nd));
        nd->ndm_family = AF_BRIDGE;
        nd->ndm_ifindex = port;
        nd->ndm_state = NUD_REACHABLE;
        nd->ndm_flags = NTF_MASTER;
        mnl_attr_put(m, NDA_LLADDR, 6, "\x02\x00\x00\x00\x00\x05");
        assert_int_equal(mnl_socket_sendto(socket, m, m->nlmsg_len), m->nlmsg_len);
        assert_true(mnl_socket_recvfrom(socket, buffer, sizeof(buffer)) > 0);
        assert_int_equal(((struct nlmsgerr *)mnl_nlmsg_get_payload((struct nlmsghdr *)buffer))->error,
                         0);
        (void)mnl_socket_close(socket);
}

/* What a frame makes and ends is nobody's business, or a guest could flood the service with it. */
static void only_entries_that_were_not_learnt(void **state) {
        static const uint8_t mac[6] = {2, 0, 0, 0, 0, 5};
        Netlink *monitor;
        TapMade made;
        Failure f;

        assert_int_equal(tap_create(nl, &features, &plain, &made, &f), 0);
        assert_int_equal(netlink_open_fdb_monitor(&monitor), 0);
        gone = 0;
        learn_and_forget(made.ifindex, RTM_NEWNEIGH);
        learn_and_forget(made.ifindex, RTM_DELNEIGH);
        assert_int_equal(netlink_read_fdb_monitor(monitor, on_gone, NULL), 0);
        assert_int_equal(gone, 0);
        assert_int_equal(netlink_add_fdb(nl, made.ifindex, mac), 0);
        assert_int_equal(netlink_read_fdb_monitor(monitor, on_gone, NULL), 0);
        assert_int_equal(gone, 0);
        learn_and_forget(made.ifindex, RTM_DELNEIGH);
        assert_int_equal(netlink_read_fdb_monitor(monitor, on_gone, NULL), 0);
        assert_int_equal(gone, 1);
        netlink_close(monitor);
}

static int own_namespace(void **state) {
        uint32_t address = 0x010010ac; /* 172.16.0.1 */

        memcpy(&config.bridge_ip.in, &address, 4);
        kernel_detect(&features);
        return unshare(CLONE_NEWNET) < 0 ? -1 : netlink_open(&nl);
}

static int leave(void **state) {
        netlink_close(nl);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(every_step_of_a_plain_tap, with_bridge),
                cmocka_unit_test_setup(every_step_of_a_full_tap, with_bridge),
                cmocka_unit_test_setup(every_answer_lost, with_bridge),
                cmocka_unit_test_setup(every_step_of_a_replacement, with_bridge),
                cmocka_unit_test_setup(every_step_of_an_old_replacement, with_bridge),
                cmocka_unit_test_setup(every_step_of_a_bridge, clean),
                cmocka_unit_test_setup(every_step_of_deletes, with_bridge),
                cmocka_unit_test_setup(displaces_only_what_was_meant, with_bridge),
                cmocka_unit_test_setup(only_entries_that_were_not_learnt, with_bridge),
        };

        if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) < 0) {
                (void)fprintf(stderr, "skipped: makes links: needs root and /dev/net/tun\n");
                return 77;
        }
        return cmocka_run_group_tests(tests, own_namespace, leave);
}
