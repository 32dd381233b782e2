/* SPDX-License-Identifier: MIT */
/* The verbs: what they are called, what they take, what they are for, what they print as JSON.
 * --help, the check of arguments and the dispatch are all made from this table.
 *
 * Shapes: "[...]" is an array with an element per object, in the order of the command line, where
 * one that failed has "error": {"name", "message"} instead of what comes after "|". A "?" follows
 * what is not always there. Shapes only grow. */

#include <string.h>

#include "ctl.h"
#include "i18n.h"
#include "text.h"

#define FEW 1, -1
#define NONE 0, 0

const Verb verbs[] = {
        {"list", "", N_("List your VMs (root: all)"),
         "[{pid, uid, api_sock, pidfd-inode?, state?}]", NONE, 0, verb_list},
        {"taps", "", N_("List your taps (root: all)"),
         "[{tap, ifindex, uid, bridge?, carrier?, auto-delete?, isolated?, guest-mac?, mtu?, tun-uid?}]",
         NONE, 0, verb_taps},
        {"status", "", N_("Show the service, the bridge, and what you have and may have"),
         "{version, features: [name], bridge: {name, address, exists?, up?, ports?}, runtime_dir, firecracker_bin, uid, "
         "processes, taps, usage: {taps, taps-max, waits, waits-max, calls-max}}",
         NONE, 0, verb_status},
        {"get-usage", "", N_("Show your quotas and what is used of them"),
         "{taps, taps-max, waits, waits-max, calls-max}", NONE, 0, verb_get_usage},
        {"monitor", "", N_("Show VMs and taps, then each that comes and goes, until Ctrl-C"),
         "a line each: {event: process|process-appeared|process-exited|tap|tap-created|tap-deleted|"
         "service-lost|service-restarted, pid?, uid?, api_sock?, pidfd-inode?, cause?, status?, exited_usec?, "
         "meaning?, tap?, ifindex?, bridge?, carrier?, auto-delete?, isolated?, guest-mac?, mtu?, tun-uid?}",
         NONE, 0, verb_monitor},
        {"ensure-bridge", "", N_("See to it that the bridge is there and up"),
         "{bridge, ifindex, address}", NONE, 0, verb_ensure_bridge},
        {"remove-bridge", "", N_("Remove the bridge, if nothing is on it"), "{removed}", NONE, 0,
         verb_remove_bridge},
        {"create-tap", "NAME...", N_("Create taps on the bridge, or replace yours"),
         "[{tap | ifindex}]", FEW, OPTION_TAP, verb_create_tap},
        {"delete-tap", "NAME...", N_("Remove taps"), "[{tap | deleted}]", FEW, 0, verb_delete_tap},
        {"ensure-socket-dir", "", N_("See to it that your directory for API sockets is there"),
         "{path}", NONE, 0, verb_ensure_socket_dir},
        {"ensure-socket-access", "SOCKET [LABEL]",
         N_("Wait for an API socket, and make it its owner's"), "{api_sock}", 1, 2, OPTION_TIMEOUT,
         verb_ensure_socket_access},
        {"resolve-binary", "", N_("Show which firecracker is configured"), "{path}", NONE, 0,
         verb_resolve_binary},
        {"find-pid", "SOCKET...", N_("Show who listens on API sockets"), "[{api_sock | pid}]", FEW,
         0, verb_find_pid},
        {"resolve-pid", "SOCKET PID", N_("As find-pid, else PID if that is a VM of yours, else 0"),
         "{api_sock, pid}", 2, 2, 0, verb_resolve_pid},
        {"open-process", "SOCKET...", N_("As find-pid, proven by a descriptor of the process"),
         "[{api_sock | pid}]", FEW, 0, verb_open_process},
        {"send-ctrl-alt-del", "SOCKET...", N_("Ask guests to shut down"), "[{api_sock | sent}]",
         FEW, OPTION_TIMEOUT, verb_send_ctrl_alt_del},
        {"shutdown", "SOCKET...", N_("Ask guests to shut down, wait, and kill those that do not"),
         "[{api_sock | how, cause, status, meaning?}]", FEW, OPTION_GRACE | OPTION_FORCE,
         verb_shutdown},
        {"kill", "SOCKET|PID...", N_("Kill VMs at once"), "[{api_sock or pid | sent}]", FEW, 0,
         verb_kill},
        {"wait-for-exit", "SOCKET|PID...", N_("Wait until VMs are gone, and say how they ended"),
         "[{api_sock?, pid? | cause, status, meaning?}]", FEW, OPTION_TIMEOUT, verb_wait_for_exit},
        {"watch-exit", "SOCKET|PID...", N_("As wait-for-exit, but each is told when it ends"),
         "a line each: {api_sock?, pid? | cause, status, meaning?}", FEW, OPTION_TIMEOUT,
         verb_watch_exit},
        {"run", "NAME [-- ARG...]", N_("Run a VM in the foreground, with its taps, until it ends"),
         "{api_sock, pid, taps: [tap], cause, status, meaning?}", FEW,
         OPTION_CONFIG_FILE | OPTION_GRACE, verb_run},
        {"prune", "", N_("Remove your stale sockets, and your taps that nobody holds"),
         "[{api_sock or tap, removed}]", NONE, OPTION_DRY_RUN, verb_prune},
        {"doctor", "", N_("Check what microVMs need on this host"),
         "[{check, result: ok|warn|fail, text, next?}]", NONE, 0, verb_doctor},
        {},
};

/* The methods' own names, where a shorter word is the verb. */
static const char *const aliases[][2] = {
        {"list-processes", "list"},
        {"list-taps", "taps"},
        {"subscribe", "monitor"},
};

const Verb *verb_find(const char *name) {
        for (size_t i = 0; i < ELEMENTS(aliases); i++)
                if (strcmp(aliases[i][0], name) == 0)
                        name = aliases[i][1];
        for (const Verb *v = verbs; v->name; v++)
                if (strcmp(v->name, name) == 0)
                        return v;
        return NULL;
}

const Verb *verb_nearest(const char *name) {
        unsigned best = (unsigned)(strnlen(name, 32) / 3) + 2;
        const Verb *nearest = NULL;

        for (const Verb *v = verbs; v->name; v++) {
                unsigned distance = text_distance(name, v->name);

                if (distance < best) {
                        best = distance;
                        nearest = v;
                }
        }
        return nearest;
}
