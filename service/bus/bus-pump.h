/* SPDX-License-Identifier: MIT */
#pragma once

/* The connection to the bus on the event loop, in place of sd_bus_attach_event(). That one
 * processes a message a turn, with a wait of epoll's between any two: slower than a user can send.
 * This one takes a gulp of messages a turn (loop.h). */

#include <stdbool.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

typedef struct BusPump BusPump;

/* bus must not be attached. When the connection cannot go on the loop ends with 1. */
int bus_pump_new(sd_event *event, sd_bus *bus, BusPump **ret);
void bus_pump_free(BusPump *pump);

/* Whether the bus is slow to take what was sent: more would stand in front of everybody's. sd-bus gives
 * the kernel 8 MiB of it at once, so that its own queue says little. */
bool bus_pump_is_behind(BusPump *pump);
