/* SPDX-License-Identifier: MIT */
#pragma once

/* Calls that only the service's memory knows of: of a batch whose job says so, each is made again
 * after a restart, to the new service and about the same process. */

#include "batch.h"
#include "follow.h"

typedef struct Again {
        Follower f; /* first: the follower is how signals find us */
        Task *tasks;
        size_t n;
        bool back; /* another service is there, and was not asked yet */
        bool told;
} Again;

/* All return a negative errno where the bus is not to be talked to. */
int again_start(Again *again, Ctl *ctl, Task *tasks, size_t n);
void again_end(Again *again);
/* Makes the call, once it is known whom it is about. */
int again_call(Ctl *ctl, Task *task);
/* Asks a service that is back, and gives up where none comes. */
int again_look(Again *again);
/* The call failed: false if that is its end. */
bool again_lost(Ctl *ctl, Task *task, const sd_bus_error *e);
