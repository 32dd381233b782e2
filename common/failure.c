/* SPDX-License-Identifier: MIT */
/* How a Failure is filled. Texts may quote names that somebody else chose (a VMM's fault, a
 * path), so they are made valid here, once, rather than at every place that quotes. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/failure.h"
#include "common/text.h"

static void _printf_(3, 0) set_text(Failure *f, FailureKind kind, const char *format, va_list ap) {
        char raw[sizeof(f->text)];

        f->kind = kind;
        (void)vsnprintf(raw, sizeof(raw), format, ap);
        text_make_valid(raw, f->text, sizeof(f->text));
}

int failure_set(Failure *f, FailureKind kind, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        set_text(f, kind, format, ap);
        va_end(ap);
        return -(int)kind;
}

int failure_oom(Failure *f) {
        return failure_set(f, FAILURE_NO_MEMORY, "Out of memory; try again later");
}

int failure_kernel(Failure *f, int error, const char *detail, const char *format, ...) {
        char step[256], number[24];
        FailureKind kind;
        const char *why;
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(step, sizeof(step), format, ap);
        va_end(ap);

        if (error < 0)
                error = -error;
        if (error == ENOMEM)
                return failure_oom(f);
        kind = error == EOPNOTSUPP || error == ENOSYS ? FAILURE_NOT_SUPPORTED
                                                      : FAILURE_KERNEL_REFUSED;
        why = strerrordesc_np(error);
        if (!why) { /* the kernel has some that libc does not know, like ENOTSUPP */
                (void)snprintf(number, sizeof(number), "error %d", error);
                why = number;
        }
        if (detail && *detail)
                return failure_set(f, kind, "%s: %s (%s)", step, why, detail);
        return failure_set(f, kind, "%s: %s", step, why);
}
