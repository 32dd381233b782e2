/* SPDX-License-Identifier: MIT */
/* Samples and the table they end in. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench.h"

double now_ms(void) {
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

void sleep_ms(double ms) {
        struct timespec t = {.tv_sec = (time_t)(ms / 1e3)};

        t.tv_nsec = (long)((ms - (double)t.tv_sec * 1e3) * 1e6);
        (void)nanosleep(&t, NULL);
}

void samples_add(Samples *s, double ms) {
        if (s->n == s->size) {
                s->size = s->size ? s->size * 2 : 256;
                s->ms = reallocarray(s->ms, s->size, sizeof(double));
                if (!s->ms)
                        die("samples", -ENOMEM);
        }
        s->ms[s->n++] = ms;
}

static int by_size(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

double samples_at(Samples *s, double q) {
        if (s->n == 0)
                return 0;
        qsort(s->ms, s->n, sizeof(double), by_size);
        return s->ms[(size_t)(q * (double)(s->n - 1) + 0.5)];
}

void table_head(void) {
        (void)printf("%-42s %9s %9s %9s   %-22s %9s %9s %9s  %s\n", "ms", "p50", "p99", "max",
                     "beside", "p50", "ratio", "goal", "met");
}

void table_section(const char *title) {
        (void)printf("\n%s\n", title);
        (void)fflush(stdout);
}

void table_row(const char *what, Samples *s, const char *beside_name, Samples *beside, Goal goal,
               double value) {
        double p50 = samples_at(s, 0.5), other = beside ? samples_at(beside, 0.5) : 0, ratio;

        (void)printf("  %-40s %9.3f %9.3f %9.3f", what, p50, samples_at(s, 0.99), samples_at(s, 1));
        if (beside) {
                bool faster = goal == GOAL_FASTER;

                ratio = faster ? other / p50 : p50 / other;
                (void)printf("   %-22s %9.3f %8.2f%s", beside_name, other, ratio, faster ? "x" : " ");
                if (goal != GOAL_NONE && value > 0)
                        (void)printf(" %s%7.2f  %s", faster ? ">=" : "<=", value,
                                     (faster ? ratio >= value : ratio <= value) ? "yes" : "NO");
        }
        (void)printf("\n");
        (void)fflush(stdout);
}

void table_bytes(const char *what, double bytes, double goal) {
        (void)printf("  %-40s %9.0f bytes", what, bytes);
        if (goal > 0)
                (void)printf("%56s<=%7.0f  %s", "", goal, bytes <= goal ? "yes" : "NO");
        (void)printf("\n");
        (void)fflush(stdout);
}
