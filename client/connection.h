/* SPDX-License-Identifier: MIT */
#pragma once

/* The one connection, and calls over it.
 *
 * A call is made without allowing a question first. Only if the service answers that somebody has
 * to authenticate, the text agent is started (agent.h) and the call made once more, allowing it:
 * so nothing that needs no password pays for the agent, and of many calls one asks at a time,
 * which is all that an agent in a terminal can do. */

#include "ctl.h"

#define CALL_USUAL (25 * USEC_PER_SEC)
#define CALL_WAITING USEC_FOREVER /* the service keeps the time */

/* Both print what went wrong and return the exit code, CODE_DONE if all is well. */
int ctl_connect(Ctl *ctl);
/* The service's runtime directory and our uid there, asked for once. */
int ctl_whereabouts(Ctl *ctl);
void ctl_disconnect(Ctl *ctl);

/* Appends the arguments; may be called twice. */
typedef int (*CallBuild)(Ctl *ctl, sd_bus_message *m, void *userdata);
/* Exactly once per call that was started; e is not set on success. */
typedef void (*CallDone)(Ctl *ctl, sd_bus_message *reply, const sd_bus_error *e, void *userdata);

/* build may be NULL. Returns a negative errno where the call cannot even be sent. */
int call_start(Ctl *ctl, const char *method, uint64_t timeout, CallBuild build, CallDone done,
               void *userdata);
/* The same, and waits for it; *ret is the reply. Prints what went wrong; an exit code. */
int call_wait(Ctl *ctl, const char *method, CallBuild build, void *userdata, sd_bus_message **ret);
/* A CallBuild: no options. */
int call_build_options(Ctl *ctl, sd_bus_message *m, void *userdata);

/* Handles what is there, or waits for more until then (CLOCK_MONOTONIC, or USEC_FOREVER).
 * Negative if the connection is lost, -EINTR if Ctrl-C ended a question for a password. */
int ctl_iterate(Ctl *ctl, uint64_t until);

uint64_t now_usec(void);
