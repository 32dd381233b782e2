/* SPDX-License-Identifier: MIT */
/* Taps: made new, made over an old one, deleted by the dozen. */

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/kernel.h"
#include "bench.h"
#include "link/tap.h"

#define DELETES 60
#define POLKIT                                                           \
  "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority", \
          "org.freedesktop.PolicyKit1.Authority"

double bare_create_ms(Bench *b, const char *name) {
        TapSpec spec = {.bridge = "br-fc",
                        .owner = b->caller.uid,
                        .tun_uid = b->caller.uid,
                        .tun_gid = (gid_t)-1,
                        .isolated = true};
        static Features features;
        TapMade made;
        Failure f;
        double start;

        if (!features.live_rename)
                kernel_detect(&features);
        (void)snprintf(spec.name, sizeof(spec.name), "%s", name);
        start = now_ms();
        if (tap_create(b->nl, &features, &spec, &made, &f) < 0)
                die(f.text, 0);
        return now_ms() - start;
}

void delete_links(Bench *b, const char *const *names, size_t n) {
        uint32_t group = 0;
        Link link;

        while (group == 0)
                (void)!getrandom(&group, sizeof(group), 0);
        for (size_t i = 0; i < n; i++)
                if (netlink_get_link(b->nl, 0, names[i], &link) >= 0)
                        must(netlink_change_link(b->nl, &(LinkChange){.ifindex = link.ifindex,
                                                                      .group = group}),
                             names[i]);
        (void)netlink_delete_group(b->nl, group);
        settle(b);
}

/* --- the steps of a floor, and what stands beside it --- */

static double ping_ms(Bench *b) {
        double start = now_ms();

        must(sd_bus_call_method(b->as_caller, FCPROC, "org.freedesktop.DBus.Peer", "Ping", NULL,
                                NULL, NULL),
             "Ping");
        return now_ms() - start;
}

/* The service's own question, asked by the service's account. */
static double polkit_ms(Bench *b) {
        sd_bus_message *reply;
        const char *name;
        double start;
        int yes;

        must(sd_bus_get_unique_name(b->as_caller, &name), "the caller's name");
        start = now_ms();
        must(sd_bus_call_method(b->as_service, POLKIT, "CheckAuthorization", NULL, &reply,
                                "(sa{sv})sa{ss}us", "system-bus-name", 1, "name", "s", name,
                                "org.banger.fcproc.create-tap", 3, "method", "CreateTap", "tap",
                                "fcnew", "bridge", "br-fc", 0U, ""),
             "CheckAuthorization");
        start = now_ms() - start;
        must(sd_bus_message_enter_container(reply, 'r', "bba{ss}"), "polkit's answer");
        must(sd_bus_message_read(reply, "b", &yes), "polkit's answer");
        if (!yes)
                die("polkit does not let the caller create taps", 0);
        sd_bus_message_unref(reply);
        return start;
}

static double create_ms(sd_bus *bus, const char *name) {
        return call_ms(bus, NULL, "CreateTap", "sa{sv}", name, 0);
}

static double sudo_create_ms(Bench *b, const char *name) {
        const char *const add[] = {"sudo", "ip",  "tuntap", "add",          "dev", name,
                                   "mode", "tap", "user",   b->caller.name, NULL};
        const char *const master[] = {"sudo", "ip", "link", "set", name, "master", "br-fc", NULL};
        const char *const up[] = {"sudo", "ip", "link", "set", name, "up", NULL};
        const char *const bridge[] = {"sudo", "ip", "link", "set", "br-fc", "up", NULL};

        return run_ms(&b->caller, add) + run_ms(&b->caller, master) + run_ms(&b->caller, up) +
               run_ms(&b->caller, bridge);
}

static double bare_step(Bench *b) {
        double ms = bare_create_ms(b, "fcbare");

        settle(b);
        return ms;
}

static double user_step(Bench *b) {
        return create_ms(b->as_caller, "fcnew");
}

static double root_step(Bench *b) {
        return create_ms(b->as_root, "fcroot");
}

static double sudo_step(Bench *b) {
        double ms = sudo_create_ms(b, "fcsudo");

        settle(b);
        return ms;
}

void bench_create(Bench *b) {
        enum {
                PING,
                POLKIT_CHECK,
                BARE,
                USER,
                ROOT,
                SUDO,
                STEPS
        };
        static double (*const steps[STEPS])(Bench * b) = {ping_ms,   polkit_ms, bare_step,
                                                          user_step, root_step, sudo_step};
        static const char *const names[] = {"fcbare", "fcnew", "fcroot", "fcsudo"};
        Samples s[STEPS] = {}, floor = {};
        unsigned order[STEPS] = {PING, POLKIT_CHECK, BARE, USER, ROOT, SUDO};
        const unsigned warm = 10;

        for (unsigned i = 0; i < b->rounds + warm; i++) {
                double t[STEPS] = {};

                /* in any order, so that none always has another's wake for itself */
                for (unsigned k = STEPS - 1; k > 0; k--) {
                        unsigned other = (unsigned)random() % (k + 1), was = order[k];

                        order[k] = order[other];
                        order[other] = was;
                }
                for (unsigned k = 0; k < STEPS; k++)
                        t[order[k]] = steps[order[k]](b);
                delete_links(b, names, 4);
                if (i < warm)
                        continue;
                for (unsigned k = 0; k < STEPS; k++)
                        samples_add(&s[k], t[k]);
                samples_add(&floor, t[PING] + t[POLKIT_CHECK] + t[BARE]);
        }
        table_section("Creating a tap");
        table_row("bus round trip (Peer.Ping)", &s[PING], NULL, NULL, GOAL_NONE, 0);
        table_row("one polkit check", &s[POLKIT_CHECK], NULL, NULL, GOAL_NONE, 0);
        table_row("bare kernel calls", &s[BARE], NULL, NULL, GOAL_NONE, 0);
        table_row("CreateTap, user", &s[USER], "floor: these three", &floor, GOAL_AT_MOST, 1.25);
        table_row("CreateTap, user", &s[USER], "sudo ip, 4 commands", &s[SUDO], GOAL_FASTER, 0);
        table_row("CreateTap, root, no polkit", &s[ROOT], "sudo ip, 4 commands", &s[SUDO],
                  GOAL_FASTER, 30);
}

/* --- over an old one --- */

static int created_index(sd_bus_message *reply) {
        int ifindex;

        must(sd_bus_message_read(reply, "i", &ifindex), "CreateTap's reply");
        sd_bus_message_unref(reply);
        return ifindex;
}

static void wait_gone(Bench *b, int ifindex) {
        Link link;

        while (netlink_get_link(b->nl, ifindex, NULL, &link) >= 0)
                sleep_ms(1);
}

void bench_replace(Bench *b) {
        Samples new = {}, over = {}, row = {};
        const unsigned warm = 5, in_a_row = 20;

        for (unsigned i = 0; i < b->rounds + warm; i++) {
                sd_bus_message *reply;
                double first, second;
                int ifindex;

                first = call_ms(b->as_caller, &reply, "CreateTap", "sa{sv}", "fcnew", 0);
                ifindex = created_index(reply);
                settle(b);
                second = create_ms(b->as_caller, "fcnew");
                wait_gone(b, ifindex);
                call_ms(b->as_caller, NULL, "DeleteTap", "sa{sv}", "fcnew", 0);
                settle(b);
                if (i >= warm) {
                        samples_add(&new, first);
                        samples_add(&over, second);
                }
        }
        for (unsigned i = 0; i < b->rounds / in_a_row; i++) {
                create_ms(b->as_caller, "fcnew");
                for (unsigned k = 0; k < in_a_row; k++)
                        samples_add(&row, create_ms(b->as_caller, "fcnew"));
                call_ms(b->as_caller, NULL, "DeleteTap", "sa{sv}", "fcnew", 0);
                sleep_ms(100); /* the others are deleted behind it */
        }
        table_section("Replacing a tap of one's own");
        table_row("CreateTap over an existing tap", &over, "CreateTap, new", &new, GOAL_AT_MOST, 1.3);
        table_row("the same, twenty in a row", &row, "CreateTap, new", &new, GOAL_NONE, 0);
}

/* --- many deletes --- */

static int on_deleted(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        unsigned *left = userdata;

        if (sd_bus_message_is_method_error(m, NULL))
                die(sd_bus_message_get_error(m)->message, 0);
        (*left)--;
        return 0;
}

static const char *delete_name(unsigned i) {
        static char name[IFNAMSIZ];

        (void)snprintf(name, sizeof(name), "fcdel%u", i);
        return name;
}

static void start_deletes(sd_bus *bus, unsigned *left) {
        *left = DELETES;
        for (unsigned i = 0; i < DELETES; i++)
                must(sd_bus_call_method_async(bus, NULL, FCPROC, "org.banger.FcProc", "DeleteTap",
                                              on_deleted, left, "sa{sv}", delete_name(i), 0),
                     "DeleteTap");
        must(sd_bus_flush(bus), "DeleteTap");
}

static double deletes_ms(Bench *b) {
        double start;
        unsigned left;

        for (unsigned i = 0; i < DELETES; i++)
                create_ms(b->as_caller, delete_name(i));
        settle(b);
        start = now_ms();
        start_deletes(b->as_caller, &left);
        while (left > 0)
                if (must(sd_bus_process(b->as_caller, NULL), "the bus") == 0)
                        must(sd_bus_wait(b->as_caller, UINT64_MAX), "the bus");
        return now_ms() - start;
}

static double sudo_deletes_ms(Bench *b) {
        double start;

        for (unsigned i = 0; i < DELETES; i++)
                bare_create_ms(b, delete_name(i));
        settle(b);
        start = now_ms();
        for (unsigned i = 0; i < DELETES; i++) {
                const char *const del[] = {"sudo", "ip", "link", "del", delete_name(i), NULL};

                run_ms(&b->caller, del);
        }
        start = now_ms() - start;
        settle(b);
        return start;
}

void bench_delete(Bench *b) {
        Samples at_once = {}, sudo = {}, one = {}, sudo_one = {};

        for (unsigned i = 0; i < b->rounds / 20 + 1; i++) {
                double t = deletes_ms(b);

                if (i == 0) { /* a warm-up */
                        sudo_deletes_ms(b);
                        continue;
                }
                samples_add(&at_once, t);
                samples_add(&sudo, sudo_deletes_ms(b));
        }
        for (unsigned i = 0; i < b->rounds / 2; i++) {
                const char *const del[] = {"sudo", "ip", "link", "del", "fcdel", NULL};

                create_ms(b->as_caller, "fcdel");
                settle(b);
                samples_add(&one, call_ms(b->as_caller, NULL, "DeleteTap", "sa{sv}", "fcdel", 0));
                bare_create_ms(b, "fcdel");
                settle(b);
                samples_add(&sudo_one, run_ms(&b->caller, del));
        }
        table_section("Deleting taps");
        table_row("60 DeleteTap at once, user", &at_once, "60 x sudo ip link del", &sudo,
                  GOAL_FASTER, 7);
        table_row("one DeleteTap, user", &one, "sudo ip link del", &sudo_one, GOAL_FASTER, 0);
}

/* --- what others notice of it --- */

static void beside_deletes(Bench *b, sd_bus *bus, const char *sock, Samples *s) {
        char names[512][IFNAMSIZ];
        const char *list[512];
        unsigned n = 0, left;

        for (unsigned i = 0; i < DELETES; i++)
                create_ms(b->as_caller, delete_name(i));
        settle(b);
        start_deletes(b->as_caller, &left);
        while (left > 0) {
                if (sock)
                        samples_add(s, call_ms(bus, NULL, "FindPID", "s", sock));
                else if (n < 50) { /* a user's taps are counted */
                        list[n] = names[n];
                        (void)snprintf(names[n], sizeof(names[n]), "fcbeside%u", n);
                        samples_add(s, create_ms(bus, names[n]));
                        n++;
                } else
                        must(sd_bus_wait(b->as_caller, UINT64_MAX), "the bus");
                while (must(sd_bus_process(b->as_caller, NULL), "the bus") > 0)
                        ;
        }
        if (n > 0)
                delete_links(b, list, n);
}

static void row_beside_deletes(Bench *b, const char *what, sd_bus *bus, const char *sock) {
        static const char *const name = "fcbeside";
        Samples idle = {}, busy = {};

        for (unsigned i = 0; i < b->rounds; i++) {
                samples_add(&idle,
                            sock ? call_ms(bus, NULL, "FindPID", "s", sock) : create_ms(bus, name));
                if (!sock)
                        delete_links(b, &name, 1);
        }
        for (unsigned i = 0; i < b->rounds / 10; i++)
                beside_deletes(b, bus, sock, &busy);
        table_row(what, &busy, "the same when idle", &idle, GOAL_NONE, 0);
}

void bench_beside_deletes(Bench *b) {
        char sock[64];

        (void)snprintf(sock, sizeof(sock), "/run/banger/%u/bench.sock", b->other.uid);
        table_section("Another call while sixty deletes of another user are under way");
        row_beside_deletes(b, "FindPID, root (no polkit)", b->as_root, sock);
        row_beside_deletes(b, "FindPID, user", b->as_other, sock);
        row_beside_deletes(b, "CreateTap, root (no polkit)", b->as_root, NULL);
        row_beside_deletes(b, "CreateTap, user", b->as_other, NULL);
}
