/* SPDX-License-Identifier: MIT */
#pragma once

/* How a failure reaches the user: one line on stderr, or one JSON object there, and an exit code. */

#include <json-c/json.h>

#include "ctl.h"

/* The command line is wrong. Returns CODE_USAGE. */
int report_usage(const Ctl *ctl, const char *format, ...) _printf_(2, 3);

/* Something else failed here; name is a D-Bus error name, for JSON only. Returns code. */
int report_failure(const Ctl *ctl, int code, const char *name, const char *format, ...)
        _printf_(4, 5);

/* A call failed: e as the bus brought it, or, where that is not set, the errno r. Returns the
 * exit code; if ret_json is not NULL it is given the error's object. */
int report_call(const Ctl *ctl, const sd_bus_error *e, int r, json_object **ret_json);

/* A reply is not of the shape that the interface says. */
int report_unreadable(const Ctl *ctl);

/* The exit code alone. */
int report_code(const sd_bus_error *e);

/* A remark: only for people, never with -q or JSON. */
void report_note(const Ctl *ctl, const char *format, ...) _printf_(2, 3);

json_object *report_json(const char *name, const char *message);
