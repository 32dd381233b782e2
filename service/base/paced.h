/* SPDX-License-Identifier: MIT */
#pragma once

/* A descriptor that users can keep readable for ever: read in gulps, with a rest after each. */

#include <systemd/sd-event.h>

typedef struct Paced Paced;

/* Reads a gulp: what is there, up to a limit of its own. */
typedef void (*PacedFunction)(void *userdata);

/* Calls function from the loop when fd is readable, and at most once in rest_usec. fd stays the
 * caller's. Negative errno. */
int paced_new(sd_event *event, int fd, uint64_t rest_usec, PacedFunction function, void *userdata,
              Paced **ret);
void paced_free(Paced *paced);
