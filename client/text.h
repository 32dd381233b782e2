/* SPDX-License-Identifier: MIT */
#pragma once

/* What people write and read: spans of time, names of VMs, how a process ended. Nothing here
 * knows the bus or prints anything. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "90" (seconds), "5min", "1h 30s", "1.5s", "infinity" (UINT64_MAX), as systemd.time(7). */
bool span_parse(const char *text, uint64_t *ret_usec);
/* The other way, to whole seconds from 10 s on: "350ms", "2.5s", "1h 5min". */
void span_format(uint64_t usec, char *ret, size_t size);

/* yes, true, on, 1 and their opposites. */
bool boolean_parse(const char *text, bool *ret);

/* How many letters have to be changed to make b of a; swapped neighbours count once. */
unsigned text_distance(const char *a, const char *b);

/* A VM's name that stands for a socket in the caller's own directory: no slash, not all digits. */
bool vm_name_valid(const char *name);

/* What a Firecracker exit code means, NULL where it is a guest's or nobody's. */
const char *exit_code_meaning(int status);
/* "exited, status 148: bad syscall", "killed by SIGKILL", … */
void exit_describe(const char *cause, int status, char *ret, size_t size);
