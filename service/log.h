/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <syslog.h>

#include "cleanup.h"

/* Where stderr is the journal, records go there with fields of their own; otherwise they are
 * lines on stderr. Nothing here blocks on NSS or on the bus. */
void log_open(void);

/* priority as in syslog(3). */
void log_message(int priority, const char *format, ...) _printf_(2, 3);

/* One line for each privileged action, allowed or denied. method and object must be printable;
 * result is "done" or the D-Bus error name; text, which says why, may be NULL. */
void log_action(const char *method, uid_t uid, const char *object, const char *result,
                const char *text);
