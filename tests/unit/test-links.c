/* SPDX-License-Identifier: MIT */
/* Guards which links count as ours (service/link/link-table.c), the MAC that marks a tap's host side, and
 * how a process' end is told (service/vm/process.c). */

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "fake-kernel.h"
#include "link/link-table.h"
#include "unit.h"
#include "vm/process.h"

static Link link_of(LinkKind kind, const char *name, const char *alias) {
        Link link = {.ifindex = 5, .kind = kind};

        (void)strcpy(link.name, name);
        alias_parse(alias, &link.alias);
        return link;
}

static void whose_link(void **state) {
        static const struct {
                LinkKind kind;
                const char *name, *alias;
                bool ours, displaced;
        } cases[] = {
                {LINK_TAP, "tap0", "org.banger.FcProc uid=1000", true, false},
                {LINK_TAP, "tap0", "org.banger.FcProc uid=1000 auto-delete=:1.5", true, false},
                {LINK_TAP, "eth0", "org.banger.FcProc uid=1000", true, false}, /* renamed by an admin */
                {LINK_TAP, "_fcx5", "org.banger.FcProc uid=1000", false, true},
                {LINK_TAP, "_fcx", "org.banger.FcProc uid=0", false, true},
                {LINK_TAP, "_fcy5", "org.banger.FcProc uid=1000", true, false},
                {LINK_TAP, "tap0", "", false, false},
                {LINK_TAP, "_fcx5", "", false, false},
                {LINK_TAP, "tap0", "org.banger.FcProc bridge", false, false},
                {LINK_TAP, "tap0", "mine", false, false},
                {LINK_BRIDGE, "br-fc", "org.banger.FcProc bridge", false, false},
                {LINK_BRIDGE, "tap0", "org.banger.FcProc uid=1000", false, false},
                {LINK_OTHER, "tap0", "org.banger.FcProc uid=1000", false, false},
                {LINK_OTHER, "_fcx5", "org.banger.FcProc uid=1000", false, false},
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                Link link = link_of(cases[i].kind, cases[i].name, cases[i].alias);

                assert_int_equal(link_is_our_tap(&link), cases[i].ours);
                assert_int_equal(link_is_displaced(&link), cases[i].displaced);
        }
}

static void complete_links(void **state) {
        Link link = link_of(LINK_TAP, "tap0", "org.banger.FcProc uid=1000");

        assert_false(link_is_complete(&link)); /* the worker is at it */
        link.persistent = true;
        assert_true(link_is_complete(&link));
        link.persistent = false; /* its holder has taken that away */
        link.carrier_up_count = 1;
        assert_true(link_is_complete(&link));
}

static void guest_macs(void **state) {
        static const uint8_t mac[6] = {6, 0, 0xac, 0x10, 0, 2}, other[6] = {6, 0, 0xac, 0x10, 0, 3},
                             none[6];
        Link link = link_of(LINK_TAP, "tap0",
                            "org.banger.FcProc uid=1000 guest-mac=06:00:ac:10:00:02");

        assert_false(link_has_guest_mac(&link, mac)); /* on no bridge: the address is free */
        link.master = 3;
        assert_true(link_has_guest_mac(&link, mac));
        assert_false(link_has_guest_mac(&link, other));
        link = link_of(LINK_TAP, "tap0", "org.banger.FcProc uid=1000");
        link.master = 3;
        assert_false(link_has_guest_mac(&link, none));
        link = link_of(LINK_TAP, "_fcx5", "org.banger.FcProc uid=1000 guest-mac=06:00:ac:10:00:02");
        link.master = 3;
        assert_false(link_has_guest_mac(&link, mac));
}

static void tap_macs(void **state) {
        uint8_t mac[6], other[6];

        tap_mac(0x01020304, mac);
        assert_memory_equal(mac, "\xfe\xfc\x01\x02\x03\x04", 6);
        tap_mac(INT32_MAX, mac);
        assert_memory_equal(mac, "\xfe\xfc\x7f\xff\xff\xff", 6);
        for (int ifindex = 1; ifindex < 5000; ifindex++) {
                tap_mac(ifindex, mac);
                tap_mac(ifindex + 1, other);
                assert_int_equal(mac[0] & 3, 2); /* unicast, locally administered */
                assert_memory_not_equal(mac, other, 6);
        }
}

static void cause_names(void **state) {
        assert_string_equal(exit_cause_name(EXIT_CAUSE_UNKNOWN), "unknown");
        assert_string_equal(exit_cause_name(EXIT_CAUSE_EXITED), "exited");
        assert_string_equal(exit_cause_name(EXIT_CAUSE_SIGNALED), "signaled");
        assert_string_equal(exit_cause_name(EXIT_CAUSE_DUMPED), "dumped");
        assert_int_equal(process_exit_unknown.cause, EXIT_CAUSE_UNKNOWN);
        assert_int_equal(process_exit_unknown.status, -1);
}

typedef struct Ended {
        sd_event *event;
        ProcessExit exit;
        unsigned times;
} Ended;

static void on_exit_(Process *process, void *userdata) {
        Ended *ended = userdata;

        ended->exit = process->exit;
        ended->times++;
        (void)sd_event_exit(ended->event, 0);
}

/* A child ends, and the kernel tells this status, or, with silent, nothing. */
static ProcessExit end_of_child(bool exit_status, bool silent, int wait_status,
                                unsigned looks_before) {
        const Features features = {.exit_status = exit_status};
        ProcessTable *table;
        Process *process;
        Ended ended = {};
        pid_t child;
        Failure f;

        fake_reset();
        assert_true(sd_event_new(&ended.event) >= 0);
        assert_int_equal(process_table_new(ended.event, &features, on_exit_, &ended, &table), 0);
        child = fork();
        if (child == 0) {
                (void)pause();
                _exit(0);
        }
        assert_int_equal(process_pin(table, child, -1, &process, &f), 0);
        assert_false(process_is_gone(process->pidfd));
        if (!silent)
                fake_exit(wait_status, looks_before);
        assert_int_equal(process_kill(process, &f), 0);
        assert_int_equal(sd_event_loop(ended.event), 0);
        assert_int_equal(ended.times, 1);
        assert_true(process->exited && process_is_gone(process->pidfd));
        assert_int_equal(process_kill(process, &f), -FAILURE_NO_SUCH_PROCESS);
        assert_int_equal(waitpid(child, NULL, 0), child);
        process_unref(process);
        assert_int_equal(process_pin(table, child, -1, &process, &f), -FAILURE_NO_SUCH_PROCESS);
        process_table_free(table);
        sd_event_unref(ended.event);
        assert_true(ended.exit.at_realtime > 0);
        return ended.exit;
}

static void assert_exit(ProcessExit exit, ExitCause cause, int status) {
        assert_int_equal(exit.cause, cause);
        assert_int_equal(exit.status, status);
}

static void causes(void **state) {
        assert_exit(end_of_child(true, false, W_EXITCODE(0, 0), 0), EXIT_CAUSE_EXITED, 0);
        assert_exit(end_of_child(true, false, W_EXITCODE(148, 0), 0), EXIT_CAUSE_EXITED, 148);
        assert_exit(end_of_child(true, false, W_EXITCODE(255, 0), 0), EXIT_CAUSE_EXITED, 255);
        assert_exit(end_of_child(true, false, W_EXITCODE(0, SIGKILL), 0), EXIT_CAUSE_SIGNALED,
                    SIGKILL);
        assert_exit(end_of_child(true, false, W_EXITCODE(0, 64), 0), EXIT_CAUSE_SIGNALED, 64);
        assert_exit(end_of_child(true, false, W_EXITCODE(0, SIGABRT) | WCOREFLAG, 0),
                    EXIT_CAUSE_DUMPED, SIGABRT);
}

/* It is there only after the reap: asked again, at most 100 ms. */
static void cause_comes_late(void **state) {
        assert_exit(end_of_child(true, false, W_EXITCODE(3, 0), 1), EXIT_CAUSE_EXITED, 3);
        assert_exit(end_of_child(true, false, W_EXITCODE(3, 0), 1000), EXIT_CAUSE_UNKNOWN, -1);
}

static void cause_is_not_known(void **state) {
        assert_exit(end_of_child(true, true, 0, 0), EXIT_CAUSE_UNKNOWN, -1);
        assert_exit(end_of_child(false, false, W_EXITCODE(0, 0), 0), EXIT_CAUSE_UNKNOWN, -1);
}

static void no_process(void **state) {
        const Features features = {};
        ProcessTable *table;
        Process *process;
        sd_event *event;
        uid_t uid;
        Failure f;

        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(process_table_new(event, &features, NULL, NULL, &table), 0);
        assert_int_equal(process_pin(table, INT32_MAX, -1, &process, &f), -FAILURE_NO_SUCH_PROCESS);
        assert_non_null(strstr(f.text, "2147483647"));
        assert_int_equal(process_pin(table, getpid(), -1, &process, &f), 0);
        assert_int_equal(process_read_uid(process, &uid), 0);
        assert_int_equal(uid, getuid());
        assert_true(process_runs(process, "/some/where/test-links") ==
                    process_runs(process, "test-links"));
        assert_false(process_runs(process, "firecracker"));
        assert_false(process_runs(process, ""));
        assert_false(process_runs(process, "test-links/"));
        process_unref(process);
        process_table_free(table);
        sd_event_unref(event);
        assert_int_equal(process_started_realtime(INT32_MAX), 0);
        assert_true(process_started_realtime(getpid()) > 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(whose_link),       cmocka_unit_test(complete_links),
                cmocka_unit_test(guest_macs),       cmocka_unit_test(tap_macs),
                cmocka_unit_test(cause_names),      cmocka_unit_test(causes),
                cmocka_unit_test(cause_comes_late), cmocka_unit_test(cause_is_not_known),
                cmocka_unit_test(no_process),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
