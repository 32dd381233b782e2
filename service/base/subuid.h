/* SPDX-License-Identifier: MIT */
#pragma once

/* Which user a uid counts as where it owns an object: the ranges of subuid(5), by which a jailed
 * VM belongs to somebody. Reading needs NSS (the file has names), so it is done on a worker. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct SubuidRange {
        uid_t first, count, user;
} SubuidRange;

typedef struct SubuidMap {
        SubuidRange *ranges; /* by first, none overlapping */
        size_t n_ranges;
} SubuidMap;

/* Reads file; one that is missing is an empty map. Ranges of uid 0, ranges that reach into
 * invalid uids and ranges given to two users count for nobody. Blocks. Negative errno. */
int subuid_read(const char *file, SubuidMap *ret);
void subuid_clear(SubuidMap *map);

/* The user whose range holds uid, or uid itself. */
uid_t subuid_owner(const SubuidMap *map, uid_t uid);
bool subuid_contains(const SubuidMap *map, uid_t uid);
