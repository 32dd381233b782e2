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
 *     What is no call of anybody's rests after its gulp (paced.h).
 *
 * Work that is done a slice at a time uses a timer that is set anew for each slice
 * (loop_slice_again()). A defer source that stays on would always be the one that has been ready
 * the longest, and sd-bus' own time source never is. docs/architecture.md, "The loop". */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#define PRIORITY_CONTROL SD_EVENT_PRIORITY_IMPORTANT
#define PRIORITY_OWED (SD_EVENT_PRIORITY_NORMAL - 50)
#define PRIORITY_TURNS SD_EVENT_PRIORITY_NORMAL

/* How long one turn may take. A turn ends at its limit of things done or at this, what is first. */
#define TURN_USEC 1000U

/* CLOCK_MONOTONIC as it is now, µs. sd_event_now() is as old as the turn. */
uint64_t loop_now(void);

/* A deadline, usec from now, PRIORITY_OWED. Negative errno. */
int loop_add_timer(sd_event *event, sd_event_source **ret, uint64_t usec,
                   sd_event_time_handler_t function, void *userdata);
/* Sets such a timer again, from now. */
int loop_set_timer(sd_event_source *timer, uint64_t usec);

/* A piece of work in slices: function is called from the loop in turn with the other TURNS, once for
 * each loop_slice_again(). It is off at first. */
int loop_add_slices(sd_event *event, sd_event_source **ret, sd_event_time_handler_t function,
                    void *userdata);
int loop_slice_again(sd_event_source *slices);
