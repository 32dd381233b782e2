/* SPDX-License-Identifier: MIT */
/* The verbs: what they are called, what they take, what they are for, what they print as JSON.
 * --help, the check of arguments and the dispatch are all made from this table; the shapes are made
 * of schema/fcprocctl.schema.json, and one that is missing there does not compile. */

#include <string.h>

#include "ctl.h"
#include "i18n.h"
#include "shapes.h"
#include "text.h"

#define FEW 1, -1
#define NONE 0, 0

const Verb verbs[] = {
        {"list", "", N_("List your VMs (root: all)"), SHAPE_list, NONE, 0, verb_list},
        {"taps", "", N_("List your taps (root: all)"), SHAPE_taps, NONE, 0, verb_taps},
        {"status", "", N_("Show the service, the bridge, and what you have and may have"),
         SHAPE_status, NONE, 0, verb_status},
        {"get-usage", "", N_("Show your quotas and what is used of them"), SHAPE_get_usage, NONE, 0,
         verb_get_usage},
        {"monitor", "", N_("Show VMs and taps, then each that comes and goes, until Ctrl-C"),
         SHAPE_monitor, NONE, 0, verb_monitor},
        {"ensure-bridge", "", N_("See to it that the bridge is there and up"), SHAPE_ensure_bridge,
         NONE, 0, verb_ensure_bridge},
        {"remove-bridge", "", N_("Remove the bridge, if nothing is on it"), SHAPE_remove_bridge,
         NONE, 0, verb_remove_bridge},
        {"create-tap", "NAME...", N_("Create taps on the bridge, or replace yours"),
         SHAPE_create_tap, FEW, OPTION_TAP, verb_create_tap},
        {"delete-tap", "NAME...", N_("Remove taps"), SHAPE_delete_tap, FEW, 0, verb_delete_tap},
        {"ensure-socket-dir", "", N_("See to it that your directory for API sockets is there"),
         SHAPE_ensure_socket_dir, NONE, 0, verb_ensure_socket_dir},
        {"ensure-socket-access", "SOCKET [LABEL]",
         N_("Wait for an API socket, and make it its owner's"), SHAPE_ensure_socket_access, 1, 2,
         OPTION_TIMEOUT, verb_ensure_socket_access},
        {"resolve-binary", "", N_("Show which firecracker is configured"), SHAPE_resolve_binary,
         NONE, 0, verb_resolve_binary},
        {"find-pid", "SOCKET...", N_("Show who listens on API sockets"), SHAPE_find_pid, FEW, 0,
         verb_find_pid},
        {"resolve-pid", "SOCKET PID", N_("As find-pid, else PID if that is a VM of yours, else 0"),
         SHAPE_resolve_pid, 2, 2, 0, verb_resolve_pid},
        {"open-process", "SOCKET...", N_("As find-pid, proven by a descriptor of the process"),
         SHAPE_open_process, FEW, 0, verb_open_process},
        {"send-ctrl-alt-del", "SOCKET...", N_("Ask guests to shut down"), SHAPE_send_ctrl_alt_del,
         FEW, OPTION_TIMEOUT, verb_send_ctrl_alt_del},
        {"shutdown", "SOCKET...", N_("Ask guests to shut down, wait, and kill those that do not"),
         SHAPE_shutdown, FEW, OPTION_GRACE | OPTION_FORCE, verb_shutdown},
        {"kill", "SOCKET|PID...", N_("Kill VMs at once"), SHAPE_kill, FEW, 0, verb_kill},
        {"wait-for-exit", "SOCKET|PID...", N_("Wait until VMs are gone, and say how they ended"),
         SHAPE_wait_for_exit, FEW, OPTION_TIMEOUT, verb_wait_for_exit},
        {"watch-exit", "SOCKET|PID...", N_("As wait-for-exit, but each is told when it ends"),
         SHAPE_watch_exit, FEW, OPTION_TIMEOUT, verb_watch_exit},
        {"run", "NAME [-- ARG...]", N_("Run a VM in the foreground, with its taps, until it ends"),
         SHAPE_run, FEW, OPTION_CONFIG_FILE | OPTION_GRACE, verb_run},
        {"prune", "", N_("Remove your stale sockets, and your taps that nobody holds"), SHAPE_prune,
         NONE, OPTION_DRY_RUN, verb_prune},
        {"doctor", "", N_("Check what microVMs need on this host"), SHAPE_doctor, NONE, 0,
         verb_doctor},
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
