/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>

#include "common/failure.h"

/* The D-Bus error name of a kind of failure; never NULL. */
const char *errors_name(FailureKind kind);

/* Puts a failure into a method's error. Returns the negative errno that the handler must hand
 * back to sd-bus, so that the reply carries this name and no System.Error.*. */
int errors_to_bus(sd_bus_error *error, const Failure *f);

static inline void sd_bus_message_cleanup(sd_bus_message **m) {
        sd_bus_message_unref(*m);
}
#define _cleanup_message_ _cleanup_(sd_bus_message_cleanup)
