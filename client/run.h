/* SPDX-License-Identifier: MIT */
#pragma once

/* The verb run, in two parts: what is made ready and cleared away (run.c), and the VMM while it is
 * our child (run-vmm.c). */

#include <systemd/sd-event.h>

#include "console.h"
#include "follow.h"
#include "target.h"
#include "vm-config.h"

/* A path's directory is looked up once: if it is another user's, he could put another in its place. */
typedef struct SocketFile {
        const char *path, *name; /* NULL: there is none; name: the last part of path */
        int directory;
} SocketFile;

typedef struct Run {
        Follower f; /* first: the follower is how the service's return finds us */
        Ctl *ctl;
        const char *name;
        Target target; /* its path: the API socket */
        VmConfig config;
        char *binary;
        int lock; /* on the user's directory, until the socket answers */
        SocketFile api, vsock;
        Console console;

        pid_t pid; /* of the VMM, 0 as long as there is none */
        bool gone; /* it has ended, and how is in: */
        int cause; /* CLD_EXITED, CLD_KILLED or CLD_DUMPED */
        int status;
        bool ready;       /* its socket answers, or will not any more */
        bool insistent;   /* it was not a key that asked: nobody will say it again */
        bool asked_again; /* because the service went away, and another was not seen yet */
        bool told_again;  /* and that was said */
        bool unserved;    /* it stayed away, and that was said */
        bool killed;      /* by us */
        uint64_t asked;   /* when, 0 if it was not asked to shut down */
        sd_event *event;
        sd_event_source *deadline; /* the end of the grace, where we keep it */
} Run;

/* Starts the VMM with these arguments more, NULL at the end; prints what went wrong. */
int vmm_start(Run *run, int n_extra, char *extra[]);
/* Until it has ended. Prints what went wrong; the exit code is about that, not about the VM. */
int vmm_follow(Run *run);
