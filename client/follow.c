/* SPDX-License-Identifier: MIT */
/* Following the service.
 *
 * Its signals are sent to our connection alone, so there is nothing to match at the bus; but any
 * process on the system bus can send any signal to any connection. Only those count that come from
 * the connection that owns the service's name now, which is why that is followed as well. It is
 * also how a restart is noticed: who waits has to say so again to the new one. */

#include <stdio.h>
#include <string.h>

#include "follow.h"
#include "i18n.h"
#include "output.h"
#include "report.h"

#define BUS_NAME "org.freedesktop.DBus"

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *ret) {
        const char *sender = sd_bus_message_get_sender(m);
        Follower *f = userdata;

        if (!sd_bus_message_is_signal(m, FCPROC_NAME, NULL) || !sender || !*f->owner ||
            strcmp(sender, f->owner) != 0)
                return 0;
        f->on_signal(f, m, sd_bus_message_get_member(m));
        return 0;
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *ret) {
        const char *sender = sd_bus_message_get_sender(m), *name, *old, *new;
        Follower *f = userdata;

        if (!sender || strcmp(sender, BUS_NAME) != 0 ||
            sd_bus_message_read(m, "sss", &name, &old, &new) < 0 ||
            strcmp(name, FCPROC_NAME) != 0 || strcmp(new, f->owner) == 0)
                return 0;
        (void)snprintf(f->owner, sizeof(f->owner), "%s", new);
        f->lost = now_usec();
        f->on_owner(f);
        return 0;
}

int follow_owner(Ctl *ctl, Follower *f) {
        f->ctl = ctl;
        return sd_bus_add_match(ctl->bus, &f->match,
                                "type='signal',sender='" BUS_NAME "',interface='" BUS_NAME
                                "',member='NameOwnerChanged',arg0='" FCPROC_NAME "'",
                                on_owner_changed, f);
}

int follow_start(Ctl *ctl, Follower *f) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        _cleanup_free_ char *version = NULL;
        const char *owner;
        int r, code = CODE_DONE;

        r = follow_owner(ctl, f);
        if (r >= 0)
                r = sd_bus_add_filter(ctl->bus, &f->filter, on_message, f);
        if (r >= 0)
                r = sd_bus_get_property_string(ctl->bus, FCPROC_NAME, FCPROC_PATH, FCPROC_NAME,
                                               "Version", &e, &version);
        if (r >= 0)
                r = sd_bus_call_method(ctl->bus, BUS_NAME, "/org/freedesktop/DBus", BUS_NAME,
                                       "GetNameOwner", &e, &reply, "s", FCPROC_NAME);
        if (r >= 0)
                r = sd_bus_message_read(reply, "s", &owner);
        if (r >= 0)
                (void)snprintf(f->owner, sizeof(f->owner), "%s", owner);
        else
                code = report_call(ctl, &e, r, NULL);
        sd_bus_message_unref(reply);
        return code;
}

void follow_end(Follower *f) {
        f->filter = sd_bus_slot_unref(f->filter);
        f->match = sd_bus_slot_unref(f->match);
}

/* --- taps that live as long as this command --- */

typedef struct Taps {
        Follower f;
        bool look, subscribe;
} Taps;

static void taps_on_signal(Follower *f, sd_bus_message *m, const char *member) {
        ((Taps *)f)->look |= strcmp(member, "TapDeleted") == 0;
}

static void taps_on_owner(Follower *f) {
        ((Taps *)f)->look = ((Taps *)f)->subscribe = true;
}

/* How many of them there are still. */
static int taps_count(Ctl *ctl, int n, char *names[], int *ret) {
        sd_bus_message *reply = NULL;
        const char *name;
        int code, r, count = 0;

        code = call_wait(ctl, "ListTaps", NULL, NULL, &reply);
        if (code != CODE_DONE)
                return code;
        r = sd_bus_message_enter_container(reply, 'a', "(siua{sv})");
        while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'r', "siua{sv}")) > 0) {
                r = sd_bus_message_read(reply, "siu", &name, NULL, NULL);
                for (int i = 0; r >= 0 && i < n; i++)
                        count += strcmp(name, names[i]) == 0;
                if (r >= 0)
                        r = sd_bus_message_skip(reply, "a{sv}");
                if (r >= 0)
                        r = sd_bus_message_exit_container(reply);
        }
        sd_bus_message_unref(reply);
        *ret = count;
        return r < 0 ? report_call(ctl, NULL, r, NULL) : CODE_DONE;
}

int follow_taps(Ctl *ctl, int n, char *names[]) {
        Taps t = {.f = {.on_signal = taps_on_signal, .on_owner = taps_on_owner},
                  .look = true,
                  .subscribe = true};
        sd_bus_message *reply = NULL;
        int code, r = 0, left = n;

        code = follow_start(ctl, &t.f);
        while (r >= 0) {
                if (code == CODE_NO_SERVICE && sd_bus_is_open(ctl->bus) > 0) {
                        /* the taps go when we do: its next start is the next look */
                        t.subscribe = t.look = true;
                        code = CODE_DONE;
                        r = ctl_iterate(ctl, now_usec() + USEC_PER_SEC);
                        continue;
                }
                if (code != CODE_DONE)
                        break;
                if (t.subscribe && *t.f.owner) {
                        t.subscribe = false;
                        code = call_wait(ctl, "Subscribe", call_build_options, NULL, &reply);
                        reply = sd_bus_message_unref(reply);
                        continue;
                }
                if (t.look && *t.f.owner) {
                        t.look = false;
                        code = taps_count(ctl, n, names, &left);
                        if (left == 0)
                                break;
                        continue;
                }
                (void)output_status(ctl,
                                    left > 1 ? _("The taps are there while this runs; Ctrl-C ends it")
                                             : _("The tap is there while this runs; Ctrl-C ends it"));
                r = ctl_iterate(ctl, USEC_FOREVER);
        }
        follow_end(&t.f);
        if (code == CODE_DONE && r < 0)
                code = report_call(ctl, NULL, r, NULL);
        return code;
}
