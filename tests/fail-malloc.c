/* SPDX-License-Identifier: MIT */
/* Makes allocations of the service's own code fail, one or every n-th, as test_memory.py asks. Guards
 * against a site whose failure is not looked at; the libraries' own allocations are left alone.
 *
 * Linked with -Wl,--wrap=malloc and so on. The file that FCPROC_FAIL_CONTROL names is shared with the
 * test, which writes and reads it while the service runs. */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct Control {
        _Atomic uint32_t fail_at; /* which allocation, from 1; 0: none */
        _Atomic uint32_t every;   /* 0: none */
        _Atomic uint32_t count;   /* of allocations so far */
        _Atomic uint32_t failed;
        _Atomic uint64_t site; /* the last that failed: its offset in the program */
} Control;

static Control own, *control = &own;

extern const char __executable_start[];

__attribute__((constructor)) static void share_control(void) {
        const char *file = getenv("FCPROC_FAIL_CONTROL");
        int fd = file ? open(file, O_RDWR | O_CLOEXEC) : -1;
        void *shared;

        if (fd < 0)
                return;
        shared = mmap(NULL, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (shared != MAP_FAILED)
                control = shared;
        (void)close(fd);
}

static bool fails(const void *caller) {
        uint32_t n = atomic_fetch_add(&control->count, 1) + 1, every = atomic_load(&control->every);

        if (n != atomic_load(&control->fail_at) && (every == 0 || n % every != 0))
                return false;
        atomic_store(&control->site, (uint64_t)((const char *)caller - __executable_start));
        (void)atomic_fetch_add(&control->failed, 1);
        errno = ENOMEM;
        return true;
}

#define FAILS() fails(__builtin_return_address(0))

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
        return FAILS() ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size) {
        return FAILS() ? NULL : __real_calloc(n, size);
}

void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size) {
        return FAILS() ? NULL : __real_realloc(p, size);
}

void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size) {
        return FAILS() ? NULL : __real_reallocarray(p, n, size);
}

char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);
char *__wrap_strdup(const char *s) {
        return FAILS() ? NULL : __real_strdup(s);
}

char *__real_strndup(const char *s, size_t n);
char *__wrap_strndup(const char *s, size_t n);
char *__wrap_strndup(const char *s, size_t n) {
        return FAILS() ? NULL : __real_strndup(s, n);
}

int __wrap_asprintf(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **ret, const char *format, ...) {
        va_list ap;
        int n;

        if (FAILS()) /* *ret is left as it was: glibc promises nothing */
                return -1;
        va_start(ap, format);
        n = vasprintf(ret, format, ap);
        va_end(ap);
        return n;
}
