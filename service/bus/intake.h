/* SPDX-License-Identifier: MIT */
#pragma once

/* What is read from the bus, before anything is done with it: every message is counted against the
 * user who sent it, or thrown away unread.
 *
 * The bus has no limit for messages that want no answer, and its limits for others are by
 * connection. sd-bus answers Introspect, Properties and Peer by itself, and none of these are calls
 * that a quota counts. */

#include "service.h"

/* Puts itself before everything else on the service's connection. Negative errno. */
int intake_start(Service *service);
/* Once the service has its name: keeps the answer to Introspect, which is dear to make. */
int intake_learn_introspection(Service *service);
void intake_stop(Service *service);
