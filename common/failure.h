/* SPDX-License-Identifier: MIT */
#pragma once

/* What went wrong, in terms a caller can act upon, without a word about any bus. What a caller does
 * about it by calling something is not said here, for nobody here knows who they are: the kind tells
 * a program (its next step is in the interface's XML), and fcprocctl names a verb of its own. What an
 * administrator can do is.
 *
 * Domain code (bridge, tap, sockets, process, vmm) takes a Failure, fills it, and returns what
 * failure_set() returned. errors.c alone knows which D-Bus error name belongs to which kind. */

#include "common/cleanup.h"

typedef enum FailureKind {
        FAILURE_NONE,
        FAILURE_INVALID_ARGS,
        FAILURE_ACCESS_DENIED,
        FAILURE_INTERACTION_REQUIRED,
        FAILURE_LIMITS_EXCEEDED,
        FAILURE_NO_MEMORY,
        FAILURE_BINARY_NOT_CONFIGURED,
        FAILURE_BINARY_NOT_FOUND,
        FAILURE_SOCKET_NOT_READY,
        FAILURE_NO_SUCH_PROCESS,
        FAILURE_NOT_A_VMM,
        FAILURE_NO_SUCH_TAP,
        FAILURE_NO_SUCH_BRIDGE,
        FAILURE_NOT_OURS,
        FAILURE_IN_USE,
        FAILURE_WAIT_FOR_EXIT_TIMEOUT,
        FAILURE_CANCELLED,
        FAILURE_VMM_REFUSED,
        FAILURE_VMM_UNREACHABLE,
        FAILURE_KERNEL_REFUSED,
        FAILURE_NOT_SUPPORTED,
        _FAILURE_KINDS,
} FailureKind;

typedef struct Failure {
        FailureKind kind;
        char text[640]; /* what is wrong and with what; valid UTF-8 */
} Failure;

/* Returns -kind, so that a function can end with "return failure_set(…)"; text that does not fit
 * is cut at a character boundary. */
int failure_set(Failure *f, FailureKind kind, const char *format, ...) _printf_(3, 4);

/* The kernel refused a step: "STEP: strerror(-error) (detail)". -ENOMEM becomes NO_MEMORY, and
 * "this kernel cannot" (-EOPNOTSUPP, -ENOSYS) NOT_SUPPORTED. detail may be NULL or empty.
 * Returns -kind. */
int failure_kernel(Failure *f, int error, const char *detail, const char *format, ...) _printf_(4, 5);

/* Returns -FAILURE_NO_MEMORY. */
int failure_oom(Failure *f);
