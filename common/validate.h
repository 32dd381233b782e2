/* SPDX-License-Identifier: MIT */
#pragma once

/* Pure checks of what a caller sent: no state, no system call. They are fuzzed.
 * A check fills a Failure that quotes the object; it returns 0 or -FAILURE_INVALID_ARGS. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/failure.h"

#define TAP_NAME_MAX 15 /* IFNAMSIZ - 1, netdevice(7) */

/* [a-z0-9][a-z0-9._-]*, at most 15 bytes, not all digits: what the kernel takes literally and no
 * tool misreads. "tap%d" would be a template to it, "" too (net/core/dev.c). */
bool link_name_valid(const char *name);

/* link_name_valid() and starting with one of prefixes, a NULL-terminated list. */
int tap_name_check(const char *name, char *const *prefixes, Failure *f);

/* A path is walked name by name, for every look; a jail's has some eight. */
#define PATH_DEPTH_MAX 64

/* Absolute, shorter than PATH_MAX, of at most PATH_DEPTH_MAX names, no empty, "." or ".." component, valid UTF-8 without control
 * characters. */
bool path_valid(const char *path);
int socket_path_check(const char *path, Failure *f);

/* Text that goes into messages and logs: 1 to 64 bytes, no control character, no '<' or '>'
 * (journald would read "<3>" as a priority). */
int label_check(const char *label, Failure *f);

/* 0 < pid <= INT32_MAX. */
int pid_check(uint32_t pid, Failure *f);

/* "aa:bb:cc:dd:ee:ff" of either case; unicast and not zero. */
int mac_check(const char *text, uint8_t ret_mac[static 6], Failure *f);
void mac_format(const uint8_t mac[static 6], char ret_text[static 18]);

/* Usable as a user: not 65534 (nobody, and what user namespaces show for "unmapped"), and not
 * above INT32_MAX ((uid_t)-1 and negative numbers in other people's programs). */
bool uid_valid(uid_t uid);

/* A decimal number with no sign, no leading zero and no space, at most max. */
bool number_parse(const char *text, uint64_t max, uint64_t *ret);
