/* SPDX-License-Identifier: MIT */
/* What the service says about itself. The journal gets fields (FCPROC_METHOD, FCPROC_UID,
 * FCPROC_OBJECT, FCPROC_RESULT, MESSAGE_ID), so that "who made this tap" is a query. */

#define SD_JOURNAL_SUPPRESS_LOCATION

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>

#include "base/log.h"
#include "base/loop.h"
#include "common/text.h"

#define MESSAGE_ACTION_DONE "8fd5c707a9614dfab28af29c840c8cbe"
#define MESSAGE_ACTION_FAILED "a6bcc8a0da54430fa4fbdd9c6634928d"

static bool to_journal;

void log_open(void) {
        const char *stream = getenv("JOURNAL_STREAM"); /* systemd.exec(5): device:inode of stderr */
        unsigned long long device, inode;
        struct stat st;

        to_journal = stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
                     fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

/* --- shares --- */

/* One share: a user's deeds, a user's other lines, or a warning of one format. There is room for
 * some hundred that are in use at once; where it is taken, the one that has rested longest goes. */
typedef struct Share {
        const void *format; /* of a warning, else NULL */
        uid_t uid;
        LogKind kind;
        uint64_t since; /* µs, CLOCK_MONOTONIC */
        unsigned lines;
} Share;

#define SHARES 512U
#define NEIGHBOURS 8U
#define WINDOW_USEC (10 * USEC_PER_SEC)

static Share shares[SHARES];

static unsigned share_max(const Share *share) {
        return share->format             ? LOG_WARNINGS_MAX
               : share->kind == LOG_DEED ? LOG_DEEDS_MAX
                                         : LOG_OTHERS_MAX;
}

static void write_message(int priority, const char *text);

static void tell_rest(const Share *share) {
        char text[160];

        if (share->lines <= share_max(share))
                return;
        if (share->format)
                (void)snprintf(text, sizeof(text),
                               "%u more warnings of that kind were not logged: %.60s",
                               share->lines - share_max(share), (const char *)share->format);
        else
                (void)snprintf(text, sizeof(text), "%u more %s of uid %u were not logged",
                               share->lines - share_max(share),
                               share->kind == LOG_DEED ? "deeds" : "failures and waits", share->uid);
        write_message(LOG_NOTICE, text);
}

static Share *find_share(const void *format, uid_t uid, LogKind kind) {
        size_t hash = ((uintptr_t)format >> 3) * 31 + uid * 2654435761U + kind;
        Share *oldest = NULL;

        for (size_t i = 0; i < NEIGHBOURS; i++) {
                Share *s = &shares[(hash + i) % SHARES];

                if (s->lines > 0 && s->format == format && s->uid == uid && s->kind == kind)
                        return s;
                if (!oldest || s->since < oldest->since)
                        oldest = s;
        }
        tell_rest(oldest);
        *oldest = (Share){.format = format, .uid = uid, .kind = kind, .since = loop_now()};
        return oldest;
}

/* Whether one more line may be written. */
static bool may_write(const void *format, uid_t uid, LogKind kind) {
        uint64_t now = loop_now();
        Share *share;

        if (!format && uid == 0)
                return true;
        share = find_share(format, uid, kind);
        if (now - share->since > WINDOW_USEC) {
                tell_rest(share);
                share->since = now;
                share->lines = 0;
        }
        return ++share->lines <= share_max(share);
}

/* --- writing --- */

static void write_message(int priority, const char *text) {
        if (to_journal)
                (void)sd_journal_send("MESSAGE=%s", text, "PRIORITY=%i", priority, NULL);
        else
                (void)fprintf(stderr, "%s%s\n",
                              priority <= LOG_ERR       ? "error: "
                              : priority <= LOG_WARNING ? "warning: "
                                                        : "",
                              text);
}

static void _printf_(2, 0) write_v(int priority, const char *format, va_list ap) {
        char raw[1024], text[1024];

        (void)vsnprintf(raw, sizeof(raw), format, ap);
        text_make_printable(raw, text, sizeof(text));
        write_message(priority, text);
}

void log_message(int priority, const char *format, ...) {
        va_list ap;

        if ((priority == LOG_WARNING || priority == LOG_NOTICE) &&
            !may_write(format, UID_NONE, LOG_OTHER))
                return;
        va_start(ap, format);
        write_v(priority, format, ap);
        va_end(ap);
}

void log_of_user(uid_t uid, int priority, const char *format, ...) {
        va_list ap;

        if (!may_write(NULL, uid, LOG_DEED))
                return;
        va_start(ap, format);
        write_v(priority, format, ap);
        va_end(ap);
}

void log_action(LogKind kind, const char *method, uid_t uid, const char *object, const char *result,
                const char *text) {
        bool done = strcmp(result, "done") == 0;
        char why[640] = "";

        if (!may_write(NULL, uid, kind))
                return;
        if (text)
                text_make_printable(text, why, sizeof(why));
        if (to_journal)
                (void)sd_journal_send("MESSAGE=%s%s%s by uid %u: %s%s%s", method, *object ? " " : "",
                                      object, uid, result, *why ? ": " : "", why, "PRIORITY=%i",
                                      done ? LOG_INFO : LOG_NOTICE, "MESSAGE_ID=%s",
                                      done ? MESSAGE_ACTION_DONE : MESSAGE_ACTION_FAILED,
                                      "FCPROC_METHOD=%s", method, "FCPROC_UID=%u", uid,
                                      "FCPROC_OBJECT=%s", object, "FCPROC_RESULT=%s", result, NULL);
        else
                (void)fprintf(stderr, "%s%s%s by uid %u: %s%s%s\n", method, *object ? " " : "",
                              object, uid, result, *why ? ": " : "", why);
}
