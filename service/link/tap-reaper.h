/* SPDX-License-Identifier: MIT */
#pragma once

/* Deletes displaced taps in the background, in batches, on a worker of its own: nobody who
 * creates a tap waits for another's delete. */

#include <systemd/sd-event.h>

#include "common/failure.h"
#include "link/netlink.h"

typedef struct TapReaper TapReaper;

/* failure is NULL when the tap is gone. */
typedef void (*TapReapedFunction)(const Failure *failure, void *userdata);
/* After each batch: room may be in the budget of those who wait. */
typedef void (*TapBatchFunction)(bool failed, void *userdata);

int tap_reaper_new(sd_event *event, TapBatchFunction on_batch, void *userdata, TapReaper **ret);
void tap_reaper_free(TapReaper *reaper);

/* Queues a displaced tap. function may be NULL; it is called once. One that is queued already is
 * not queued twice, but its second function is called, too. */
int tap_reaper_add(TapReaper *reaper, int ifindex, TapReapedFunction function, void *userdata);
