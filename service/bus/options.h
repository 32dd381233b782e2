/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>

#include "common/failure.h"

/* One key that a method's a{sv} options may hold. type: 'b' (int), 's' (const char *, the
 * message's), 'u' (uint32_t) or 't' (uint64_t); value is written, and *present set, where it is given. */
typedef struct Option {
        const char *key;
        char type;
        void *value;
        int *present; /* may be NULL */
} Option;

/* Reads the dictionary that comes next. Anything unknown, of another type, or given twice is
 * INVALID_ARGS: an option that is passed over would be a promise that is not kept. */
int options_read(sd_bus_message *m, const Option *options, size_t n, Failure *f);
