/* SPDX-License-Identifier: MIT */
/* Errors as people and programs want them.
 *
 * The service's own texts name the object and the next step; they are passed on as they are. What
 * comes from the bus itself, or from the library, speaks of names and messages that mean nothing
 * to somebody who typed "create-tap": those are told in this file's words, and here alone it is
 * decided which exit code an error has. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "i18n.h"
#include "output.h"
#include "report.h"
#include "validate.h"

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

/* What the service says of the next step is for programs. */
static void say_who_to_ask(char *message, size_t size) {
        char *next = strchr(message, ';');
        bool by_group = strstr(message, ".create-tap)") || strstr(message, ".manage-bridge)");

        if (next)
                (void)snprintf(next, size - (size_t)(next - message), "; %s",
                               by_group
                                       ? _("run it on a terminal, or ask an administrator for a rule "
                                           "or to be put into the group banger")
                                       : _("run it on a terminal, or ask an administrator for a rule"));
}

int report_unreadable(const Ctl *ctl) {
        return report_failure(ctl, CODE_FAILED, SD_BUS_ERROR_INVALID_SIGNATURE,
                              _("The service's answer cannot be read; is it of another version?"));
}

int report_call(const Ctl *ctl, const sd_bus_error *e, int r, json_object **ret_json) {
        char name[256], message[1024];
        int code = CODE_NO_SERVICE;
        size_t i;

        if (sd_bus_error_is_set(e)) {
                i = error_find(e->name);
                code = report_code(e);
                (void)snprintf(name, sizeof(name), "%s", e->name);
                (void)snprintf(message, sizeof(message), "%s", e->message ?: _("It failed"));
                if (is_timeout(e))
                        (void)snprintf(message, sizeof(message), "%s",
                                       _("The service did not answer in time"));
                else if (i < ELEMENTS(errors) && errors[i].text)
                        (void)snprintf(message, sizeof(message), "%s", _(errors[i].text));
                else if (sd_bus_error_has_name(e, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED))
                        say_who_to_ask(message, sizeof(message));
                else if (strncmp(message, "Rejected send message", 21) == 0)
                        (void)snprintf(message, sizeof(message), "%s",
                                       _("The system bus does not let you talk to the FcProc service; "
                                         "is its bus policy installed?"));
        } else {
                if (r == -ENOMEM)
                        code = CODE_FAILED;
                (void)snprintf(name, sizeof(name), "%s",
                               r == -ENOMEM ? SD_BUS_ERROR_NO_MEMORY : SD_BUS_ERROR_DISCONNECTED);
                (void)snprintf(message, sizeof(message),
                               r == -ENOMEM ? _("It failed: %s")
                                            : _("Cannot talk to the system bus: %s"),
                               strerror(-r));
        }
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
