/* SPDX-License-Identifier: MIT */
/* For LD_PRELOAD into fcprocctl: from when the file that FAST_CLOCK names is there, its monotonic
 * clock runs a hundred times as fast. So a test need not wait five minutes for what takes as long.
 * The programs that it starts, and what it asks the system otherwise, keep their own time. */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FACTOR 100
#define SLICE_NSEC 20000000L

/* Declared here as the headers may have inline variants of them. */
int clock_gettime(clockid_t clock, struct timespec *ret);
int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask);

static long long real_nsec(void) {
        struct timespec t;

        (void)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long nsec(void) {
        static long long begun;
        const char *file = getenv("FAST_CLOCK");
        long long now = real_nsec();

        if (begun == 0 && file && strcmp(program_invocation_short_name, "fcprocctl") == 0 &&
            access(file, F_OK) == 0)
                begun = now;
        return begun == 0 ? now : begun + (now - begun) * FACTOR;
}

int clock_gettime(clockid_t clock, struct timespec *ret) {
        long long now;

        if (clock != CLOCK_MONOTONIC)
                return (int)syscall(SYS_clock_gettime, clock, ret);
        now = nsec();
        *ret = (struct timespec){.tv_sec = now / 1000000000LL, .tv_nsec = now % 1000000000LL};
        return 0;
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask) {
        long long end = timeout ? nsec() + timeout->tv_sec * 1000000000LL + timeout->tv_nsec : -1;

        for (;;) {
                struct timespec slice = {.tv_nsec = SLICE_NSEC};
                long long left = end - nsec();
                int r;

                if (timeout && left <= 0)
                        slice.tv_nsec = 0;
                else if (timeout && left < SLICE_NSEC)
                        slice.tv_nsec = left;
                r = (int)syscall(SYS_ppoll, fds, n, &slice, mask, _NSIG / 8);
                if (r != 0 || (timeout && nsec() >= end))
                        return r;
        }
}
