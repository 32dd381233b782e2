/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <syslog.h>

#include "common/cleanup.h"

/* Where stderr is the journal, records go there with fields of their own; otherwise they are
 * lines on stderr. Nothing here blocks on NSS or on the bus. */
void log_open(void);

/* Nobody drowns what others did: of each user so many lines are written in ten seconds and the rest
 * is counted, and of each warning too. The count is told once. root's are all written. */
#define LOG_DEEDS_MAX 500U  /* what was changed */
#define LOG_OTHERS_MAX 200U /* what failed, or was waited for */
#define LOG_WARNINGS_MAX 50U

/* priority as in syslog(3). Warnings and notices are held to LOG_WARNINGS_MAX for each format. */
void log_message(int priority, const char *format, ...) _printf_(2, 3);

/* The same, said of what is uid's. */
void log_of_user(uid_t uid, int priority, const char *format, ...) _printf_(3, 4);

typedef enum LogKind {
        LOG_DEED,  /* something was changed */
        LOG_OTHER, /* nothing was */
} LogKind;

/* One line for each privileged action, allowed or denied. method and object must be printable;
 * result is "done" or the D-Bus error name; text, which says why, may be NULL. */
void log_action(LogKind kind, const char *method, uid_t uid, const char *object, const char *result,
                const char *text);
