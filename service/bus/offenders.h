/* SPDX-License-Identifier: MIT */
#pragma once

/* Users who took a neighbour's address by one of their taps.
 *
 * A tap that does it leaves its bridge, for good. Making another costs its holder nothing, so that by
 * one after the other a neighbour would be out of reach most of the time. Who does it may make no tap
 * for a while, and each time for twice as long. */

#include "service.h"

/* One more, from now. root's are not counted. */
void offenders_note(Service *service, uid_t uid);
/* Until uid may make a tap again, µs; 0: now. */
uint64_t offenders_wait(Service *service, uid_t uid);
void offenders_free(Service *service);
