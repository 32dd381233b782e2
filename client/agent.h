/* SPDX-License-Identifier: MIT */
#pragma once

/* polkit's agent for terminals, for as long as this command runs. */

#include "ctl.h"

#define AGENT_PATIENCE (300 * USEC_PER_SEC) /* how long a password may take */

/* Starts it, once, if there is a terminal and somebody to ask there; returns when it is ready. */
void agent_open(const Ctl *ctl);
/* Ends it; the terminal is as it was, and what was typed ahead is forgotten. */
void agent_close(void);
/* Ctrl-C, or SIGTERM, while it ran. */
bool agent_interrupted(void);
