/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>

#include "common/failure.h"

/* The D-Bus error name of a kind of failure; never NULL. */
const char *errors_name(FailureKind kind);

/* Answers a message that has become no call (call.h); whether it wants an answer or not. Returns 1, as
 * a handler does that has answered. */
int errors_reply(sd_bus_message *m, const Failure *f);

static inline void sd_bus_message_cleanup(sd_bus_message **m) {
        sd_bus_message_unref(*m);
}
#define _cleanup_message_ _cleanup_(sd_bus_message_cleanup)
