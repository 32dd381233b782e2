/* SPDX-License-Identifier: MIT */
#pragma once

/* The verb run, in two parts: what is made ready and cleared away (run.c), and the VMM while it is
 * our child (run-vmm.c). */

#include "connection.h"
#include "console.h"
#include "target.h"
#include "vm-config.h"

/* Which file it is, so that one of the same name that came later is left alone. */
typedef struct SocketFile {
        const char *path; /* NULL: there is none */
        dev_t device;
        ino_t inode; /* 0: the VMM never got as far */
} SocketFile;

typedef struct Run {
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
        bool ready;     /* its socket answers, or will not any more */
        bool asked;     /* it was asked to shut down */
        bool insistent; /* not by a key: nobody will say it again */
        bool killed;    /* by us */
} Run;

/* Starts the VMM with these arguments more, NULL at the end; prints what went wrong. */
int vmm_start(Run *run, int n_extra, char *extra[]);
/* Until it has ended. Prints what went wrong; the exit code is about that, not about the VM. */
int vmm_follow(Run *run);
