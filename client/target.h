/* SPDX-License-Identifier: MIT */
#pragma once

/* A VM as it is named on a command line: the path of its API socket, its bare name, or a pid. */

#include "ctl.h"

typedef struct Target {
        const char *typed;
        uint32_t pid; /* 0: the one behind the socket */
        char *path;   /* NULL until target_locate(), where a name was typed */
} Target;

/* Both print what is wrong and return an exit code. The first needs no bus, the second does. */
int target_parse(const Ctl *ctl, const char *typed, bool pid_allowed, Target *ret);
int target_locate(Ctl *ctl, Target *target);
void target_done(Target *target);
