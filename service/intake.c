/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "errors.h"
#include "intake.h"
#include "log.h"
#include "loop.h"
#include "peer.h"

#define DRIVER "org.freedesktop.DBus"
#define INTROSPECTABLE "org.freedesktop.DBus.Introspectable"

/* Of one user, root excepted, in a second. A call that polkit is asked about takes 1.5 ms, so this
 * is no limit for work that gets done. */
#define MESSAGES_MAX 2000U
#define WINDOW_USEC USEC_PER_SEC
/* Of a connection, before the bus has said whose it is: that takes less than a millisecond. */
#define STRANGER_MESSAGES_MAX 64U

/* Only the bus itself has signals for us (org.freedesktop.DBus.Local: sd-bus has). */
static bool is_the_buss(sd_bus_message *m) {
        const char *sender = sd_bus_message_get_sender(m);

        return !sender || strcmp(sender, DRIVER) == 0 ||
               sd_bus_message_is_signal(m, "org.freedesktop.DBus.Local", NULL) > 0;
}

/* Counts one more; false: that is too many. */
static bool count(Peer *peer) {
        User *user = peer->user;
        uint64_t now;

        if (!user)
                return ++peer->intake.messages <= STRANGER_MESSAGES_MAX;
        if (user->uid == 0)
                return true;
        now = loop_now();
        if (now - user->intake.since > WINDOW_USEC)
                user->intake = (Intake){.since = now};
        return ++user->intake.messages <= MESSAGES_MAX;
}

static int refuse(sd_bus_message *m, const Failure *f) {
        if (sd_bus_message_get_expect_reply(m) > 0)
                (void)sd_bus_reply_method_errorf(m, errors_name(f->kind), "%s", f->text);
        return 1;
}

static int refuse_flood(sd_bus_message *m, const Peer *peer) {
        const User *user = peer->user;
        Failure f;

        if (user)
                (void)failure_set(&f, FAILURE_LIMITS_EXCEEDED,
                                  "uid %u has sent more than %u messages within a second; send fewer",
                                  user->uid, MESSAGES_MAX);
        else
                (void)failure_set(&f, FAILURE_LIMITS_EXCEEDED,
                                  "This connection has sent more than %u messages before the bus told whose it is; "
                                  "wait for an answer first",
                                  STRANGER_MESSAGES_MAX);
        if (user && user->intake.messages == MESSAGES_MAX + 1) /* once in a window */
                log_of_user(user->uid, LOG_WARNING, "%s", f.text);
        return refuse(m, &f);
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *sender = sd_bus_message_get_sender(m), *unique = NULL;
        Service *s = userdata;
        Peer *peer;
        Failure f;

        if (sd_bus_message_is_method_call(m, NULL, NULL) <= 0)
                return is_the_buss(m) ? 0 : 1;
        if (!sender || (sd_bus_message_get_expect_reply(m) <= 0 &&
                        !sd_bus_message_is_method_call(m, FCPROC_INTERFACE, NULL)))
                return 1; /* nothing would come of it */
        if (sd_bus_get_unique_name(s->bus, &unique) >= 0 && strcmp(sender, unique) == 0)
                return 0;
        if (peer_get(s, sender, &peer) < 0)
                return failure_oom(&f), refuse(m, &f);
        if (!count(peer))
                return refuse_flood(m, peer);
        if (s->introspection && sd_bus_message_is_method_call(m, INTROSPECTABLE, "Introspect") > 0 &&
            sd_bus_message_is_empty(m) > 0 && strcmp(sd_bus_message_get_path(m), FCPROC_PATH) == 0) {
                (void)sd_bus_reply_method_return(m, "s", s->introspection);
                return 1;
        }
        return 0;
}

int intake_start(Service *s) {
        return sd_bus_add_filter(s->bus, &s->intake, on_message, s);
}

static int on_introspection(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Service *s = userdata;
        const char *text;

        if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "s", &text) >= 0)
                s->introspection = strdup(text); /* without it sd-bus answers each time */
        return 0;
}

int intake_learn_introspection(Service *s) {
        return sd_bus_call_method_async(s->bus, NULL, FCPROC_NAME, FCPROC_PATH, INTROSPECTABLE,
                                        "Introspect", on_introspection, s, "");
}

void intake_stop(Service *s) {
        s->intake = sd_bus_slot_unref(s->intake);
        free(TAKE_PTR(s->introspection));
}
