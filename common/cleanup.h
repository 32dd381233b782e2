/* SPDX-License-Identifier: MIT */
#pragma once

/* Ownership in local variables: what is declared with _cleanup_ is released at the end of its
 * block, whatever path leads there. TAKE_FD and TAKE_PTR hand it on. */

#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(release) __attribute__((cleanup(release)))
#define _printf_(text, first) __attribute__((format(printf, text, first)))

static inline void freep(void *p) {
        free(*(void **)p);
}

static inline int close_fd(int fd) {
        if (fd >= 0)
                (void)close(fd);
        return -1;
}

static inline void closep(int *fd) {
        *fd = close_fd(*fd);
}

#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)

#define TAKE_PTR(p)                         \
  ({                                        \
__typeof__(p) *_from = &(p), _taken = *_from; \
*_from = NULL;                                \
_taken;                                       \
  })
#define TAKE_FD(fd)                \
  ({                               \
int *_from = &(fd), _taken = *_from; \
*_from = -1;                         \
_taken;                              \
  })

#define ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b)) /* of values that may be looked at twice */

#define USEC_PER_MSEC 1000ULL
#define USEC_PER_SEC 1000000ULL
#define USEC_FOREVER UINT64_MAX
#define UID_NONE ((uid_t)-1)
