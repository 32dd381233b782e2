/* SPDX-License-Identifier: MIT */
#pragma once

/* What the service lists, as JSON: the tables are made from it, so that both always agree. */

#include <json-c/json.h>

#include "ctl.h"

/* Adds the entries of an a{sv} to o. */
int dictionary_read(sd_bus_message *m, json_object *o);
/* Each fetches a list; prints what went wrong; an exit code. */
/* *ret_whole false: there are more than the service looks at, which was said. */
int processes_fetch(Ctl *ctl, json_object **ret, bool *ret_whole);
int taps_fetch(Ctl *ctl, json_object **ret);
int usage_fetch(Ctl *ctl, json_object **ret);

/* Members, "" and 0 where there is none. */
const char *member_string(json_object *o, const char *key);
int64_t member_number(json_object *o, const char *key);
bool member_bool(json_object *o, const char *key);
bool member_there(json_object *o, const char *key);
