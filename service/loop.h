/* SPDX-License-Identifier: MIT */
#pragma once

/* The order of the event loop.
 *
 * sd-event dispatches one source at a time: the lowest priority value first, and among equals the
 * one that has been ready the longest. So each source has one of three priorities:
 *
 *  1. CONTROL: root's orders.
 *  2. OWED: what somebody was promised: ends of processes, deadlines, a worker's results. A quota
 *     stands behind each of them, so nobody can keep them ready for ever.
 *  3. TURNS: what a user can keep ready for ever: the bus, API sockets, directories, reports of
 *     links. They take turns, and a turn is short: it reads a gulp, and no more than a gulp.
 *     A source that is no call of anybody's then rests for a while (paced.h).
 *
 * Work that is done a slice at a time uses a timer that is set anew for each slice. A defer source
 * that stays on would always be the one that has been ready the longest. docs/architecture.md,
 * "The loop", says what this gives. */

#include <systemd/sd-event.h>

#define PRIORITY_CONTROL SD_EVENT_PRIORITY_IMPORTANT
#define PRIORITY_OWED (SD_EVENT_PRIORITY_NORMAL - 50)
#define PRIORITY_TURNS SD_EVENT_PRIORITY_NORMAL
