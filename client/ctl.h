/* SPDX-License-Identifier: MIT */
#pragma once

/* What all of fcprocctl shares: the command line as it was understood, and the one connection.
 *
 * A verb's handler checks its arguments first, so that nonsense is a usage error without a bus,
 * then connects, then calls. It returns the exit code; everything that a user is told about a
 * failure has been printed by then (report.h). */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "common/cleanup.h"

#define FCPROC_NAME "org.banger.FcProc"
#define FCPROC_PATH "/org/banger/FcProc"
#define FCPROC_ERROR "org.banger.FcProc.Error."

#define GRACE_DEFAULT (30 * USEC_PER_SEC) /* how long a guest may take to shut down */

/* Of several objects the first failure's counts. */
enum {
        CODE_DONE = 0,
        CODE_FAILED = 1,
        CODE_USAGE = 2,
        CODE_DENIED = 4,
        CODE_NO_SERVICE = 7,
        CODE_NO_OBJECT = 10,
        CODE_TIMED_OUT = 12,
};

typedef enum JsonMode {
        JSON_OFF,
        JSON_SHORT,
        JSON_PRETTY
} JsonMode;

#define OPTIONS_MAX 64

/* The groups of options that only some verbs take; a verb names its own in the table. */
enum {
        OPTION_TIMEOUT = 1 << 0,
        OPTION_GRACE = 1 << 1,
        OPTION_FORCE = 1 << 2,
        OPTION_TAP = 1 << 3, /* all of create-tap's */
        OPTION_DRY_RUN = 1 << 4,
        OPTION_CONFIG_FILE = 1 << 5,
};

typedef struct Ctl Ctl;
typedef struct Call Call;

typedef struct Verb {
        const char *name, *arguments, *help;
        const char *shape; /* what --json prints */
        int min, max;      /* arguments; max -1: any number */
        unsigned options;
        int (*run)(Ctl *ctl, int n, char *arguments[]);
} Verb;

struct Ctl {
        const Verb *verb;

        const char *host, *machine;
        JsonMode json;
        bool no_legend, no_pager, quiet, no_ask_password;
        bool help;

        uint64_t given; /* a bit for each row of option.c */
        bool have_timeout, have_grace;
        uint64_t timeout, grace;
        bool force, dry_run;
        bool have_isolated, auto_delete;
        uint32_t tun_uid, tun_gid, mtu;
        bool isolated;
        const char *guest_mac, *config_file;
        int n_behind; /* arguments behind "--" */

        sd_bus *bus;
        char *runtime_dir; /* the service's, once it was asked for */
        uid_t uid;         /* ours, as that bus sees it */
        Call *calls;       /* all that are under way */
        Call *asking;      /* the call whose caller is being asked for a password */
        Call *to_ask;      /* those that wait for their turn */
};

static inline bool ctl_remote(const Ctl *ctl) {
        return ctl->host || ctl->machine;
}

extern const Verb verbs[];
const Verb *verb_find(const char *name);
const Verb *verb_nearest(const char *name); /* NULL if none is near */

#define VERB(name) int verb_##name(Ctl *ctl, int n, char *arguments[])
VERB(ensure_bridge);
VERB(remove_bridge);
VERB(ensure_socket_dir);
VERB(create_tap);
VERB(delete_tap);
VERB(resolve_binary);
VERB(ensure_socket_access);
VERB(find_pid);
VERB(resolve_pid);
VERB(open_process);
VERB(send_ctrl_alt_del);
VERB(wait_for_exit);
VERB(watch_exit);
VERB(kill);
VERB(shutdown);
VERB(list);
VERB(taps);
VERB(get_usage);
VERB(status);
VERB(monitor);
VERB(prune);
VERB(run);
VERB(doctor);
