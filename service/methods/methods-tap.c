/* SPDX-License-Identifier: MIT */
/* Methods on taps. What costs no system call (names, owners, quotas) is answered from the table of
 * links; what writes runs on the worker, which looks at everything again. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "base/worker.h"
#include "bus/authorize.h"
#include "bus/errors.h"
#include "bus/offenders.h"
#include "bus/options.h"
#include "common/cleanup.h"
#include "common/failure.h"
#include "common/validate.h"
#include "link/link-table.h"
#include "link/netlink.h"
#include "link/tap-reaper.h"
#include "methods/link-job.h"
#include "methods/methods.h"
#include "watch/tap-watch.h"

/* --- CreateTap --- */

static void create_tap_run(Job *job, void *context) {
        LinkJob *j = (LinkJob *)job;
        Netlink *nl = context;

        if (!link_job_lacks_netlink(j, nl))
                j->result = tap_create(nl, &j->features, &j->spec, &j->made, &j->failure);
}

static void create_tap_done(Job *job) {
        LinkJob *j = (LinkJob *)job;
        Call *call = link_job_back(j);
        bool creator_gone = call->peer->gone && *j->spec.auto_delete;

        tap_making_end(j->service, &j->making);
        if (j->made.gateways_mac && !call->gateways_mac) { /* nothing was done: to be asked for as that */
                call->gateways_mac = true;
                call_resume(call);
        } else if (j->result < 0)
                (void)call_fail_with(call, &j->failure);
        else {
                call->changed = true;
                (void)call_reply(call, "i", j->made.ifindex);
        }
        if (creator_gone)
                tap_watch_peer_gone(j->service, j->spec.auto_delete);
        free(j);
}

/* A tap that the worker is just making has no mark yet. */
static bool is_unmarked(Service *s, const LinkEntry *e) {
        return e->link.kind == LINK_TAP && e->link.alias.kind == ALIAS_FOREIGN &&
               tap_is_being_made(s, e->link.name, UID_NONE);
}

/* The name may be free, or the caller's own tap. */
static int check_namesake(Service *s, const char *tap, const User *user, bool *ret_replaces,
                          Failure *f) {
        LinkEntry *e = link_table_by_name(s->links, tap), *bridge;

        bridge = link_table_by_name(s->links, s->config->bridge_name);
        if (!bridge || bridge->link.kind != LINK_BRIDGE)
                return failure_set(f, FAILURE_NO_SUCH_BRIDGE, "There is no bridge %s for tap %s",
                                   s->config->bridge_name, tap);
        *ret_replaces = e != NULL || tap_is_being_made(s, tap, user->uid);
        if (!e)
                return 0;
        if (is_unmarked(s, e)) /* the worker will know */
                return 0;
        if (!link_is_our_tap(&e->link))
                return failure_set(f, FAILURE_NOT_OURS,
                                   "%s exists and was not made by this service; choose another name",
                                   tap);
        if (e->link.alias.uid != user->uid)
                return failure_set(f, FAILURE_ACCESS_DENIED,
                                   "Tap %s belongs to uid %u and is not replaced; choose another name, or have it deleted",
                                   tap, e->link.alias.uid);
        return 0;
}

static int check_tap_quota(Call *call, const char *tap, bool replaces, bool *ret_wait, Failure *f) {
        Service *s = call->service;
        const Config *c = s->config;
        User *u = call->user;
        unsigned budget = u->uid == 0 ? c->max_taps : c->max_taps_per_user;

        if (offenders_wait(s, u->uid) > 0)
                return failure_set(f, FAILURE_ACCESS_DENIED,
                                   "Tap %s: uid %u took a neighbour's address by one of its taps, and may make "
                                   "taps again in %u s",
                                   tap, u->uid,
                                   (unsigned)(offenders_wait(s, u->uid) / USEC_PER_SEC) + 1);
        *ret_wait = false;
        if (replaces) {
                /* those that wait for their delete have a budget of their own; over it, replacing waits */
                *ret_wait = tap_count(s, u->uid).displaced >= budget &&
                            link_table_count_displaced(s->links, UID_NONE) > 0;
                return 0;
        }
        if (u->uid != 0 && tap_count(s, u->uid).taps >= c->max_taps_per_user)
                return failure_set(f, FAILURE_LIMITS_EXCEEDED,
                                   "Tap %s: uid %u has %u taps, which is the limit (max_taps_per_user)",
                                   tap, u->uid, c->max_taps_per_user);
        if (tap_count(s, UID_NONE).taps >= c->max_taps)
                return failure_set(f, FAILURE_LIMITS_EXCEEDED,
                                   "Tap %s: all users together have %u taps, which is the limit (max_taps)",
                                   tap, c->max_taps);
        return 0;
}

typedef struct TapOptions {
        uint32_t tun_uid, tun_gid, mtu;
        int isolated, auto_delete;
        const char *guest_mac;
        int has_tun_uid, has_tun_gid, has_mtu, has_isolated, has_guest_mac;
} TapOptions;

static int read_tap_options(sd_bus_message *m, TapOptions *o, Failure *f) {
        const Option options[] = {
                {"tun-uid", 'u', &o->tun_uid, &o->has_tun_uid},
                {"tun-gid", 'u', &o->tun_gid, &o->has_tun_gid},
                {"guest-mac", 's', &o->guest_mac, &o->has_guest_mac},
                {"isolated", 'b', &o->isolated, &o->has_isolated},
                {"mtu", 'u', &o->mtu, &o->has_mtu},
                {"auto-delete", 'b', &o->auto_delete, NULL},
        };

        return options_read(m, options, ELEMENTS(options), f);
}

/* Everything about the options that can be told without knowing the caller. */
static int check_tap_options(Service *s, const char *tap, const TapOptions *o, TapSpec *spec,
                             Failure *f) {
        if (o->has_guest_mac) {
                int r = mac_check(o->guest_mac, spec->guest_mac, f);

                if (r < 0)
                        return r;
                spec->has_guest_mac = true;
        }
        if (o->has_mtu && (o->mtu < TAP_MTU_MIN || o->mtu > 65535))
                return failure_set(f, FAILURE_INVALID_ARGS,
                                   "mtu %u of tap %s: give %d to that of the bridge (often 1500)",
                                   o->mtu, tap, TAP_MTU_MIN);
        if (o->has_tun_uid && !uid_valid(o->tun_uid))
                return failure_set(f, FAILURE_INVALID_ARGS, "tun-uid %u of tap %s is no user's",
                                   o->tun_uid, tap);
        if (o->has_tun_gid && !uid_valid(o->tun_gid))
                return failure_set(f, FAILURE_INVALID_ARGS, "tun-gid %u of tap %s is no group's",
                                   o->tun_gid, tap);
        spec->mtu = o->mtu;
        spec->isolated = o->has_isolated ? o->isolated : s->config->port_isolation;
        spec->tun_gid = o->has_tun_gid ? o->tun_gid : (gid_t)-1;
        return 0;
}

/* What is asked of polkit, and the log's and the errors' name for the object. */
static const char *create_tap_action(Call *call, const char *tap, const TapSpec *spec) {
        bool global = spec->has_guest_mac && !(spec->guest_mac[0] & 0x02);
        char mac[18];

        call_set_object(call, "%s", tap);
        if (call->gateways_mac || global) {
                mac_format(spec->guest_mac, mac);
                call_set_object(call, "%s (guest-mac %s, which is %s)", tap, mac,
                                call->gateways_mac ? "a gateway's" : "not locally administered");
                return ACTION_MANAGE_OTHERS;
        }
        return call->service->config->port_isolation && !spec->isolated ? ACTION_MANAGE_OTHERS
                                                                        : ACTION_CREATE_TAP;
}

int method_create_tap(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        bool replaces, wait;
        const char *action;
        LinkJob job = {};
        TapOptions o = {};
        Service *s = userdata;
        const char *tap;
        Failure f;
        int r;

        r = sd_bus_message_read(m, "s", &tap);
        if (r < 0)
                return r;
        if (tap_name_check(tap, s->config->tap_prefixes, &f) < 0 ||
            read_tap_options(m, &o, &f) < 0 || check_tap_options(s, tap, &o, &job.spec, &f) < 0)
                return errors_reply(m, &f);
        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        call_set_object(call, "%s", tap);

        link_table_sync(s->links);
        if (check_namesake(s, tap, call->user, &replaces, &f) < 0 ||
            check_tap_quota(call, tap, replaces, &wait, &f) < 0)
                return call_fail_with(call, &f);
        action = create_tap_action(call, tap, &job.spec);
        r = call_authorize(call, action, &(Details){.tap = tap, .bridge = s->config->bridge_name});
        if (r != 0)
                return r;
        if (wait) {
                call->waits_for_reaper = true;
                return call_park(call);
        }

        (void)strcpy(job.spec.name, tap); /* at most TAP_NAME_MAX bytes, see tap_name_check() */
        (void)strcpy(job.spec.bridge, s->config->bridge_name);
        job.spec.owner = call->user->uid;
        job.spec.may_be_gateways = call_is_root(call) || strcmp(action, ACTION_MANAGE_OTHERS) == 0;
        if (job.spec.has_guest_mac &&
            tap_guest_mac_is_taken(s, job.spec.guest_mac, tap, call->user->uid))
                return tap_guest_mac_in_use(&job.spec, &f), call_fail_with(call, &f);
        job.spec.tun_uid = o.has_tun_uid ? o.tun_uid : call->user->uid;
        if (o.auto_delete)
                (void)snprintf(job.spec.auto_delete, sizeof(job.spec.auto_delete), "%s",
                               call->peer->name);
        return link_job_submit(call, &job, create_tap_run, create_tap_done);
}

/* --- DeleteTap --- */

static void displace_tap_run(Job *job, void *context) {
        LinkJob *j = (LinkJob *)job;
        Netlink *nl = context;

        if (!link_job_lacks_netlink(j, nl))
                j->result = tap_displace(nl, &j->features, j->ifindex, j->name, j->uid, &j->failure);
}

static void on_reaped(const Failure *failure, void *userdata) {
        Call *call = userdata;

        call->with_worker = false;
        if (failure)
                (void)call_fail_with(call, failure);
        else {
                call->changed = true;
                (void)call_reply(call, NULL);
        }
}

static void displace_tap_done(Job *job) {
        LinkJob *j = (LinkJob *)job;
        Call *call = link_job_back(j);

        if (j->result < 0)
                (void)call_fail_with(call, &j->failure);
        else {
                call->with_worker = true;
                if (tap_reaper_add(j->service->reaper, j->ifindex, on_reaped, call) < 0) {
                        (void)failure_oom(&j->failure);
                        on_reaped(&j->failure, call);
                }
        }
        free(j);
}

static bool is_known_tap(Service *s, const char *name) {
        LinkEntry *e;

        link_table_sync(s->links);
        e = link_table_by_name(s->links, name);
        return e && link_is_our_tap(&e->link);
}

int method_delete_tap(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        Service *s = userdata;
        const char *tap;
        LinkEntry *e;
        LinkJob job;
        Failure f;
        int r;

        r = sd_bus_message_read(m, "s", &tap);
        if (r < 0)
                return r;
        /* the prefixes may have been others when it was made */
        if (!is_known_tap(s, tap) && tap_name_check(tap, s->config->tap_prefixes, &f) < 0)
                return errors_reply(m, &f);
        if (options_read(m, NULL, 0, &f) < 0)
                return errors_reply(m, &f);
        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        call_set_object(call, "%s", tap);

        link_table_sync(s->links);
        e = link_table_by_name(s->links, tap);
        if (!e || is_unmarked(s, e))
                return call_fail(call, FAILURE_NO_SUCH_TAP, "There is no tap %s; nothing to delete",
                                 tap);
        if (!link_is_our_tap(&e->link))
                return call_fail(call, FAILURE_NOT_OURS,
                                 "%s was not made by this service; whoever made it should delete it",
                                 tap);
        r = call_authorize(call, ACTION_DELETE_TAP,
                           &(Details){.tap = tap, .has_owner = true, .owner_uid = e->link.alias.uid});
        if (r != 0)
                return r;
        job = (LinkJob){.ifindex = e->link.ifindex, .uid = e->link.alias.uid};
        memcpy(job.name, e->link.name, sizeof(job.name));
        return link_job_submit(call, &job, displace_tap_run, displace_tap_done);
}

/* --- ListTaps --- */

/* Carrier and owner are asked of the kernel anew: its reports of them may be a second late. */
typedef struct ListJob {
        Job job; /* first */
        Service *service;
        Call *call;
        int result;
        Failure failure;
        size_t n;
        Link links[];
} ListJob;

static void list_taps_drop(Job *job) {
        free(job);
}

static void list_taps_run(Job *job, void *context) {
        ListJob *j = (ListJob *)job;
        Netlink *nl = context;

        if (!nl)
                j->result = failure_kernel(&j->failure, job->no_context, NULL,
                                           "Opening a netlink socket");
        for (size_t i = 0; j->result >= 0 && i < j->n; i++) {
                Link *link = &j->links[i];
                int r = netlink_get_link(nl, link->ifindex, NULL, link);

                if (r == -ENODEV)
                        link->ifindex = 0; /* gone meanwhile */
                else if (r < 0)            /* a list with holes would be a lie */
                        j->result = failure_kernel(&j->failure, r, netlink_detail(nl),
                                                   "Tap %s: looking it up", link->name);
        }
}

static int append_tap(sd_bus_message *reply, LinkTable *links, const Link *link) {
        LinkEntry *bridge = link->master ? link_table_by_ifindex(links, link->master) : NULL;
        char mac[18];
        int r;

        r = sd_bus_message_open_container(reply, 'r', "siua{sv}");
        if (r >= 0)
                r = sd_bus_message_append(reply, "siu", link->name, link->ifindex, link->alias.uid);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(reply, "{sv}{sv}{sv}{sv}{sv}{sv}", "bridge", "s",
                                          bridge ? bridge->link.name : "", "carrier", "b",
                                          link->carrier, "auto-delete", "b",
                                          *link->alias.auto_delete != '\0', "isolated", "b",
                                          link->isolated, "mtu", "u", link->mtu, "tun-uid", "u",
                                          link->tun_uid);
        if (r >= 0 && link->alias.has_guest_mac) {
                mac_format(link->alias.guest_mac, mac);
                r = sd_bus_message_append(reply, "{sv}", "guest-mac", "s", mac);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static void list_taps_done(Job *job) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        ListJob *j = (ListJob *)job;
        Call *call = j->call;
        int r;

        link_table_sync(j->service->links);
        call->with_worker = false;
        if (j->result < 0) {
                (void)call_fail_with(call, &j->failure);
                free(j);
                return;
        }
        r = sd_bus_message_new_method_return(call->message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(siua{sv})");
        for (size_t i = 0; r >= 0 && i < j->n; i++)
                if (j->links[i].ifindex > 0 && link_is_our_tap(&j->links[i]))
                        r = append_tap(reply, j->service->links, &j->links[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        (void)call_reply_message(call, r, reply);
        free(j);
}

int method_list_taps(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        Service *s = userdata;
        ListJob *j;
        uid_t uid;
        int r;

        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        r = call_authorize(call, ACTION_INSPECT, &(Details){.never_prompt = true});
        if (r != 0)
                return r;
        link_table_sync(s->links);
        uid = call_is_root(call) ? UID_NONE : call->user->uid;
        j = link_table_is_whole(s->links)
                    ? calloc(1, sizeof(*j) + link_table_count_taps(s->links, uid) * sizeof(Link))
                    : NULL;
        if (!j)
                return call_fail_oom(call);
        j->job = (Job){.run = list_taps_run,
                       .done = list_taps_done,
                       .drop = list_taps_drop,
                       .user = call->user->uid};
        j->service = s;
        j->call = call;
        for (LinkEntry *e = link_table_next(s->links, NULL); e; e = link_table_next(s->links, e))
                if (link_is_our_tap(&e->link) && link_is_complete(&e->link) &&
                    (uid == UID_NONE || e->link.alias.uid == uid))
                        j->links[j->n++] = e->link;
        call->with_worker = true;
        worker_submit(s->link_worker, &j->job);
        return call_park(call);
}
