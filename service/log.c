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

#include "log.h"
#include "validate.h"

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

void log_message(int priority, const char *format, ...) {
        char raw[1024], text[1024];
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(raw, sizeof(raw), format, ap);
        va_end(ap);
        text_make_printable(raw, text, sizeof(text));

        if (to_journal)
                (void)sd_journal_send("MESSAGE=%s", text, "PRIORITY=%i", priority, NULL);
        else
                (void)fprintf(stderr, "%s%s\n",
                              priority <= LOG_ERR       ? "error: "
                              : priority <= LOG_WARNING ? "warning: "
                                                        : "",
                              text);
}

void log_action(const char *method, uid_t uid, const char *object, const char *result,
                const char *text) {
        bool done = strcmp(result, "done") == 0;
        char why[640] = "";

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
