/* SPDX-License-Identifier: MIT */
/* What people write and read. All of it is plain text in and out, so that one look here answers
 * what is accepted on the command line; the checks of names and numbers that the service makes
 * too are the service's own (validate.h). */

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/text.h"
#include "i18n.h"
#include "text.h"

static const struct {
        const char *names[5];
        uint64_t usec;
} units[] = {
        {{"s", "sec", "second", "seconds"}, USEC_PER_SEC},
        {{"us", "usec", "µs"}, 1},
        {{"ms", "msec"}, USEC_PER_MSEC},
        {{"m", "min", "minute", "minutes"}, 60 * USEC_PER_SEC},
        {{"h", "hr", "hour", "hours"}, 3600 * USEC_PER_SEC},
        {{"d", "day", "days"}, 86400 * USEC_PER_SEC},
        {{"w", "week", "weeks"}, 7 * 86400 * USEC_PER_SEC},
};

static uint64_t unit_of(const char *name, size_t length) {
        if (length == 0)
                return USEC_PER_SEC;
        for (size_t i = 0; i < ELEMENTS(units); i++)
                for (const char *const *n = units[i].names; *n; n++)
                        if (strlen(*n) == length && strncmp(*n, name, length) == 0)
                                return units[i].usec;
        return 0;
}

/* One number with its unit; moves on behind it. */
static bool span_part(const char **text, uint64_t *total) {
        const char *p = *text;
        uint64_t whole = 0, unit, value;
        double fraction = 0, digit = 0.1;
        size_t length;

        if (!isdigit((unsigned char)*p))
                return false;
        for (; isdigit((unsigned char)*p); p++)
                if (__builtin_mul_overflow(whole, 10, &whole) ||
                    __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
                        return false;
        if (*p == '.') {
                if (!isdigit((unsigned char)*++p))
                        return false;
                for (; isdigit((unsigned char)*p); p++, digit /= 10)
                        fraction += (*p - '0') * digit;
        }
        p += strspn(p, " ");
        length = strcspn(p, " .0123456789");
        unit = unit_of(p, length);
        if (unit == 0)
                return false;
        if (__builtin_mul_overflow(whole, unit, &value) ||
            __builtin_add_overflow(value, (uint64_t)(fraction * (double)unit + 0.5), &value) ||
            __builtin_add_overflow(value, *total, total))
                return false;
        p += length;
        *text = p + strspn(p, " ");
        return true;
}

bool span_parse(const char *text, uint64_t *ret_usec) {
        uint64_t total = 0;

        if (strcmp(text, "infinity") == 0) {
                *ret_usec = USEC_FOREVER;
                return true;
        }
        text += strspn(text, " ");
        do {
                if (!span_part(&text, &total))
                        return false;
        } while (*text);
        if (total == USEC_FOREVER)
                return false;
        *ret_usec = total;
        return true;
}

void span_format(uint64_t usec, char *ret, size_t size) {
        uint64_t s = usec / USEC_PER_SEC;

        if (usec == USEC_FOREVER)
                (void)snprintf(ret, size, "infinity");
        else if (usec < USEC_PER_SEC)
                (void)snprintf(ret, size, "%ums", (unsigned)(usec / USEC_PER_MSEC));
        else if (s < 10 && usec % USEC_PER_SEC)
                (void)snprintf(ret, size, "%u.%us", (unsigned)s,
                               (unsigned)(usec % USEC_PER_SEC / 100000));
        else if (s < 60)
                (void)snprintf(ret, size, "%us", (unsigned)s);
        else if (s < 3600)
                (void)snprintf(ret, size, "%umin %us", (unsigned)(s / 60), (unsigned)(s % 60));
        else
                (void)snprintf(ret, size, "%lluh %umin", (unsigned long long)(s / 3600),
                               (unsigned)(s / 60 % 60));
}

bool boolean_parse(const char *text, bool *ret) {
        static const char *const words[][2] = {
                {"no", "yes"}, {"false", "true"}, {"off", "on"}, {"0", "1"}, {"n", "y"},
        };

        for (size_t i = 0; i < ELEMENTS(words); i++)
                for (int value = 0; value < 2; value++)
                        if (strcasecmp(text, words[i][value]) == 0) {
                                *ret = value;
                                return true;
                        }
        return false;
}

unsigned text_distance(const char *a, const char *b) {
        enum {
                LONGEST = 32
        };
        size_t n = strnlen(a, LONGEST), m = strnlen(b, LONGEST);
        unsigned rows[LONGEST + 1][LONGEST + 1];

        if (n == LONGEST || m == LONGEST)
                return LONGEST;
        for (size_t i = 0; i <= n; i++)
                rows[i][0] = (unsigned)i;
        for (size_t j = 0; j <= m; j++)
                rows[0][j] = (unsigned)j;
        for (size_t i = 1; i <= n; i++)
                for (size_t j = 1; j <= m; j++) {
                        unsigned best = rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

                        best = MIN_OF(best, rows[i - 1][j] + 1);
                        best = MIN_OF(best, rows[i][j - 1] + 1);
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                best = MIN_OF(best, rows[i - 2][j - 2] + 1);
                        rows[i][j] = best;
                }
        return rows[n][m];
}

bool vm_name_valid(const char *name) {
        size_t n = strnlen(name, 65);

        if (n == 0 || n > 64 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                return false;
        for (size_t i = 0; i < n; i++)
                if (name[i] == '/' || (unsigned char)name[i] < 0x20 || name[i] == 0x7f)
                        return false;
        for (size_t i = 0, length; i < n; i += length) {
                length = utf8_sequence(name + i, n - i); /* a bus carries nothing else */
                if (length == 0)
                        return false;
        }
        return strspn(name, "0123456789") < n;
}

const char *exit_code_meaning(int status) {
        switch (status) {
        case 0:
                return _("ended by its guest");
        case 1:
                return _("error");
        case 2:
                return _("unexpected error");
        case 148:
                return _("bad syscall");
        case 149:
                return _("bus error (SIGBUS)");
        case 150:
                return _("invalid memory access (SIGSEGV)");
        case 151:
                return _("file too large (SIGXFSZ)");
        case 152:
                return _("bad configuration");
        case 153:
                return _("bad arguments");
        case 154:
                return _("out of processor time (SIGXCPU)");
        case 155:
                return _("broken pipe (SIGPIPE)");
        case 156:
                return _("hung up (SIGHUP)");
        case 157:
                return _("illegal instruction (SIGILL)");
        default:
                return NULL;
        }
}

void exit_describe(const char *cause, int status, char *ret, size_t size) {
        const char *meaning;

        if (strcmp(cause, "exited") == 0) {
                meaning = exit_code_meaning(status);
                if (meaning)
                        (void)snprintf(ret, size, _("exited, status %d: %s"), status, meaning);
                else
                        (void)snprintf(ret, size, _("exited, status %d"), status);
        } else if (strcmp(cause, "signaled") == 0 || strcmp(cause, "dumped") == 0) {
                bool dumped = *cause == 'd';

                meaning = sigabbrev_np(status);
                if (meaning)
                        (void)snprintf(ret, size,
                                       dumped ? _("killed by SIG%s, core dumped")
                                              : _("killed by SIG%s"),
                                       meaning);
                else
                        (void)snprintf(ret, size,
                                       dumped ? _("killed by signal %d, core dumped")
                                              : _("killed by signal %d"),
                                       status);
        } else if (strcmp(cause, "unknown") == 0)
                (void)snprintf(ret, size, _("ended, how is not known"));
        else
                (void)snprintf(ret, size, _("%.40s, status %d"), cause, status);
}
