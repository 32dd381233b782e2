/* SPDX-License-Identifier: MIT */
#pragma once

/* The service's signals, and the service's own coming and going. */

#include "connection.h"

#define FOLLOW_PATIENCE (30 * USEC_PER_SEC) /* with a service that is away */

typedef struct Follower {
        Ctl *ctl;
        char owner[64]; /* the service's connection; "" while it is away */
        uint64_t lost;  /* since when it is */
        void (*on_signal)(struct Follower *f, sd_bus_message *m, const char *member);
        void (*on_owner)(struct Follower *f); /* it went, or it is (another one) now */
        sd_bus_slot *filter, *match;
} Follower;

/* Starts the service if it is not there. Prints what went wrong; an exit code. */
int follow_start(Ctl *ctl, Follower *f);
/* Only the coming and going, from now on: starts nothing, and owner is "" until there is another. A
 * negative errno. */
int follow_owner(Ctl *ctl, Follower *f);
void follow_end(Follower *f);

/* Until none of the taps is there any more. Returns an exit code. */
int follow_taps(Ctl *ctl, int n, char *names[]);
