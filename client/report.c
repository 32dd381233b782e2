/* SPDX-License-Identifier: MIT */
/* Errors as people and programs want them.
 *
 * The service's own texts say what is wrong and with what; they are passed on as they are. It does
 * not know who asks, so what to type next is added here, for each kind of error. What comes from
 * the bus itself, or from the library, speaks of names and messages that mean nothing to somebody
 * who typed "create-tap": those are told in this file's words, and here alone it is decided which
 * exit code an error has. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "i18n.h"
#include "output.h"
#include "report.h"

#define STANDARD "org.freedesktop.DBus.Error."

static const struct {
        const char *name; /* a prefix if it ends in a dot */
        int code;
        const char *text; /* instead of the message; NULL: the message is fit to be read */
} errors[] = {
        {FCPROC_ERROR "NoSuchProcess", CODE_NO_OBJECT, NULL},
        {FCPROC_ERROR "NoSuchTap", CODE_NO_OBJECT, NULL},
        {FCPROC_ERROR "NoSuchBridge", CODE_NO_OBJECT, NULL},
        {FCPROC_ERROR "NotAVmm", CODE_NO_OBJECT, NULL},
        {FCPROC_ERROR "WaitForExitTimeout", CODE_TIMED_OUT, NULL},
        {FCPROC_ERROR "SocketNotReady", CODE_TIMED_OUT, NULL},
        {STANDARD "AccessDenied", CODE_DENIED, NULL},
        {STANDARD "InteractiveAuthorizationRequired", CODE_DENIED, NULL},
        {STANDARD "InvalidArgs", CODE_USAGE, NULL},
        {STANDARD "Timeout", CODE_TIMED_OUT, N_("The service did not answer in time")},
        {STANDARD "TimedOut", CODE_TIMED_OUT, N_("The service did not answer in time")},
        {STANDARD "NoReply", CODE_NO_SERVICE,
         N_("The service went away before it answered; see 'systemctl status fcproc', and try again")},
        {STANDARD "ServiceUnknown", CODE_NO_SERVICE,
         N_("The FcProc service is not there; install it, or see 'systemctl status fcproc'")},
        {STANDARD "NameHasNoOwner", CODE_NO_SERVICE,
         N_("The FcProc service is not running; see 'systemctl status fcproc'")},
        {STANDARD "Spawn.", CODE_NO_SERVICE,
         N_("The FcProc service could not be started; see 'systemctl status fcproc'")},
        {STANDARD "Disconnected", CODE_NO_SERVICE, N_("The connection to the bus is gone")},
        {"org.freedesktop.systemd1.", CODE_NO_SERVICE,
         N_("The FcProc service could not be started; see 'systemctl status fcproc'")},
        {STANDARD "Unknown", CODE_FAILED,
         N_("The running FcProc service does not know this; it is older than fcprocctl")},
};

/* What to do about it, in words of the client. The first row that fits counts; an error without one
 * says what to do itself, or leaves nothing to do. A row fits all texts that the service has under
 * that name for that verb. */
static const struct {
        const char *name;
        const char *verb; /* NULL: any */
        const char *text; /* NULL: nothing */
} hints[] = {
        {FCPROC_ERROR "NoSuchBridge", NULL,
         N_("'fcprocctl ensure-bridge' makes it, or says what is in its way")},
        {FCPROC_ERROR "NoSuchProcess", NULL, N_("'fcprocctl list' shows your VMs")},
        {FCPROC_ERROR "NotAVmm", NULL, N_("'fcprocctl list' shows your VMs")},
        {FCPROC_ERROR "SocketNotReady", NULL, N_("'fcprocctl list' shows your VMs")},
        {FCPROC_ERROR "InUse", "remove-bridge",
         N_("'fcprocctl taps' shows yours, 'fcprocctl delete-tap' removes them")},
        {FCPROC_ERROR "VmmRefused", "shutdown", N_("with --force it is killed after the grace")},
        {FCPROC_ERROR "VmmUnreachable", "send-ctrl-alt-del",
         N_("'fcprocctl kill' ends it without asking it")},
        {STANDARD "LimitsExceeded", "monitor", NULL}, /* no quota of the user's alone */
        {STANDARD "LimitsExceeded", "create-tap",
         N_("'fcprocctl get-usage' shows what you may have, 'fcprocctl prune' removes taps that nobody "
            "holds")},
        {STANDARD "LimitsExceeded", "run",
         N_("'fcprocctl get-usage' shows what you may have, 'fcprocctl prune' removes taps that nobody "
            "holds")},
        {STANDARD "LimitsExceeded", NULL, N_("'fcprocctl get-usage' shows what you may have")},
};

static size_t error_find(const char *name) {
        for (size_t i = 0; i < ELEMENTS(errors); i++) {
                size_t n = strlen(errors[i].name);

                /* "Unknown" stands for UnknownMethod, UnknownInterface and their like */
                if (strcmp(errors[i].name, name) == 0 ||
                    ((errors[i].name[n - 1] == '.' || i == ELEMENTS(errors) - 1) &&
                     strncmp(errors[i].name, name, n) == 0))
                        return i;
        }
        return ELEMENTS(errors);
}

/* The library gives up with the same name as the bus does when a service dies. */
static bool is_timeout(const sd_bus_error *e) {
        return e->message && sd_bus_error_has_name(e, STANDARD "NoReply") &&
               strstr(e->message, "timed out");
}

int report_code(const sd_bus_error *e) {
        size_t i;

        if (!sd_bus_error_is_set(e))
                return CODE_FAILED;
        if (is_timeout(e))
                return CODE_TIMED_OUT;
        i = error_find(e->name);
        return i < ELEMENTS(errors) ? errors[i].code : CODE_FAILED;
}

json_object *report_json(const char *name, const char *message) {
        json_object *o = json_object_new_object();

        (void)json_object_object_add(o, "name", json_object_new_string(name));
        (void)json_object_object_add(o, "message", json_object_new_string(message));
        return o;
}

static void print(const Ctl *ctl, const char *name, const char *message) {
        char line[2048];

        text_make_printable(message, line, sizeof(line));
        output_status_clear();
        if (ctl->json != JSON_OFF) {
                json_object *o = json_object_new_object();

                (void)json_object_object_add(o, "error", report_json(name, line));
                (void)fprintf(stderr, "%s\n",
                              json_object_to_json_string_ext(o, output_json_flags(ctl)));
                (void)json_object_put(o);
                return;
        }
        (void)fprintf(stderr, "%sfcprocctl:%s %s\n", output_colour(stderr, COLOUR_BAD),
                      output_colour(stderr, COLOUR_NONE), line);
}

int report_usage(const Ctl *ctl, const char *format, ...) {
        char text[1024];
        va_list args;

        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        print(ctl, SD_BUS_ERROR_INVALID_ARGS, text);
        return CODE_USAGE;
}

int report_failure(const Ctl *ctl, int code, const char *name, const char *format, ...) {
        char text[1024];
        va_list args;

        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        print(ctl, name, text);
        return code;
}

/* Who may answer for an action depends on the action, whatever the verb. The service names it in
 * brackets; where it does not, the error is one of ours and needs no hint. */
static const char *whom_to_ask(const char *message) {
        if (!strstr(message, "(org.banger.fcproc."))
                return NULL;
        if (strstr(message, "(org.banger.fcproc.create-tap)") ||
            strstr(message, "(org.banger.fcproc.manage-bridge)"))
                return N_("run it on a terminal, or ask an administrator for a rule or to be put into "
                          "the group banger");
        return N_("run it on a terminal, or ask an administrator for a rule");
}

static const char *hint_find(const Ctl *ctl, const char *name, const char *message) {
        if (strcmp(name, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED) == 0)
                return whom_to_ask(message);
        for (size_t i = 0; i < ELEMENTS(hints); i++)
                if (strcmp(hints[i].name, name) == 0 &&
                    (!hints[i].verb || (ctl->verb && strcmp(hints[i].verb, ctl->verb->name) == 0)))
                        return hints[i].text;
        return NULL;
}

int report_unreadable(const Ctl *ctl) {
        return report_failure(ctl, CODE_FAILED, SD_BUS_ERROR_INVALID_SIGNATURE,
                              _("The service's answer cannot be read; is it of another version?"));
}

/* The error as this file tells it: in the words of the table, or those of the service and what to
 * do about it. */
static void told(const Ctl *ctl, const sd_bus_error *e, char *ret, size_t size) {
        const char *message = e->message ?: _("It failed"), *hint;
        size_t i = error_find(e->name);

        if (is_timeout(e))
                message = _("The service did not answer in time");
        else if (i < ELEMENTS(errors) && errors[i].text)
                message = _(errors[i].text);
        else if (strncmp(message, "Rejected send message", 21) == 0)
                message = _("The system bus does not let you talk to the FcProc service; is its bus "
                            "policy installed?");
        hint = hint_find(ctl, e->name, message);
        (void)snprintf(ret, size, "%s%s%s", message, hint ? "; " : "", hint ? _(hint) : "");
}

int report_call(const Ctl *ctl, const sd_bus_error *e, int r, json_object **ret_json) {
        const char *name = r == -ENOMEM ? SD_BUS_ERROR_NO_MEMORY : SD_BUS_ERROR_DISCONNECTED;
        int code = r == -ENOMEM ? CODE_FAILED : CODE_NO_SERVICE;
        char message[1024];

        if (sd_bus_error_is_set(e)) {
                name = e->name;
                code = report_code(e);
                told(ctl, e, message, sizeof(message));
        } else
                (void)snprintf(message, sizeof(message),
                               r == -ENOMEM ? _("It failed: %s")
                                            : _("Cannot talk to the system bus: %s"),
                               strerror(-r));
        print(ctl, name, message);
        if (ret_json)
                *ret_json = report_json(name, message);
        return code;
}

void report_note(const Ctl *ctl, const char *format, ...) {
        char text[1024], line[1024];
        va_list args;

        if (ctl->quiet || ctl->json != JSON_OFF)
                return;
        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        text_make_printable(text, line, sizeof(line));
        output_status_clear();
        (void)fprintf(stderr, "%s\n", line);
}
