/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "bus/bus-pump.h"
#include "bus/errors.h"
#include "bus/intake.h"
#include "bus/peer.h"
#include "common/cleanup.h"
#include "common/failure.h"

#define DRIVER "org.freedesktop.DBus"
#define INTROSPECTABLE "org.freedesktop.DBus.Introspectable"
#define PROPERTIES "org.freedesktop.DBus.Properties"
#define NAME_LENGTH_MAX 255 /* D-Bus specification, "Valid Names" */

/* Of one user, root excepted, in a second. A call that polkit is asked about takes 1.5 ms, so this
 * is no limit for work that gets done. */
#define MESSAGES_MAX 2000U
#define WINDOW_USEC USEC_PER_SEC
/* The same while answers pile up: dbus-daemon reads some 2 KiB of a connection in each turn, and we
 * are one connection beside 256 of a user's. Answers to a flood would stand in front of everybody's. */
#define MESSAGES_MAX_BEHIND 100U
/* What is too much is refused. While answers pile up only so many are; the rest gets no answer. Not
 * more often than it has to be: each call without an answer makes the bus slower for all, until its
 * connection closes (dbus-daemon looks through all of them for each call). */
#define REFUSALS_MAX 64U
/* Of a connection, before the bus has said whose it is: that takes less than a millisecond. */
#define STRANGER_MESSAGES_MAX 64U

/* Only the bus itself has signals for us (org.freedesktop.DBus.Local: sd-bus has). */
static bool is_the_buss(sd_bus_message *m) {
        const char *sender = sd_bus_message_get_sender(m);

        return !sender || strcmp(sender, DRIVER) == 0 ||
               sd_bus_message_is_signal(m, "org.freedesktop.DBus.Local", NULL) > 0;
}

static unsigned messages_max(Service *s) {
        return bus_pump_is_behind(s->pump) ? MESSAGES_MAX_BEHIND : MESSAGES_MAX;
}

/* Counts one more. By how many it is too many, 0: it is not. */
static unsigned count(Peer *peer) {
        Intake *i = peer->user ? &peer->user->intake : &peer->intake;
        unsigned max = STRANGER_MESSAGES_MAX;

        if (peer->user) {
                uint64_t now = loop_now();

                if (peer->user->uid == 0)
                        return 0;
                if (now - i->since > WINDOW_USEC)
                        *i = (Intake){.since = now};
                max = messages_max(peer->service);
        }
        return ++i->messages > max ? i->messages - max : 0;
}

static int refuse_flood(sd_bus_message *m, Peer *peer, unsigned too_many) {
        User *user = peer->user;
        Failure f;

        if (user)
                (void)failure_set(&f, FAILURE_LIMITS_EXCEEDED,
                                  "uid %u sends too many messages, %u within a second; send fewer",
                                  user->uid, user->intake.messages);
        else
                (void)failure_set(&f, FAILURE_LIMITS_EXCEEDED,
                                  "This connection has sent more than %u messages before the bus told whose it is; "
                                  "wait for an answer first",
                                  STRANGER_MESSAGES_MAX);
        if (user && !user->intake.told)
                log_of_user(user->uid, LOG_WARNING, "%s", f.text);
        if (user)
                user->intake.told = true; /* once in a window */
        return too_many <= REFUSALS_MAX || !bus_pump_is_behind(peer->service->pump)
                       ? errors_reply(m, &f)
                       : 1;
}

/* sd-bus answers for names that it does not know, and quotes them whole. */
static bool quotes_a_long_name(sd_bus_message *m) {
        const char *name;
        bool is_long = false;

        if (sd_bus_message_is_method_call(m, PROPERTIES, NULL) <= 0)
                return false;
        for (int i = 0; i < 2 && !is_long && sd_bus_message_peek_type(m, NULL, NULL) > 0; i++) {
                if (sd_bus_message_read(m, "s", &name) <= 0)
                        break;
                is_long = strlen(name) > NAME_LENGTH_MAX;
        }
        (void)sd_bus_message_rewind(m, true);
        return is_long;
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *sender = sd_bus_message_get_sender(m), *unique = NULL;
        Service *s = userdata;
        unsigned too_many;
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
                return failure_oom(&f), errors_reply(m, &f);
        too_many = count(peer);
        if (too_many > 0)
                return refuse_flood(m, peer, too_many);
        if (quotes_a_long_name(m))
                return failure_set(&f, FAILURE_INVALID_ARGS,
                                   "A name of an interface or a property has at most %d bytes",
                                   NAME_LENGTH_MAX),
                       errors_reply(m, &f);
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
