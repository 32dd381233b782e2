/* SPDX-License-Identifier: MIT */
/* Methods on the bridge. */

#include "base/config.h"
#include "bus/authorize.h"
#include "bus/errors.h"
#include "bus/options.h"
#include "common/cleanup.h"
#include "common/failure.h"
#include "link/link-table.h"
#include "methods/link-job.h"
#include "methods/methods.h"

/* --- EnsureBridge --- */

static void inspect_bridge_run(Job *job, void *context) {
        LinkJob *j = (LinkJob *)job;
        Netlink *nl = context;

        if (!link_job_lacks_netlink(j, nl))
                j->result = bridge_inspect(nl, &j->config, &j->bridge, &j->failure);
}

static void inspect_bridge_done(Job *job) {
        LinkJob *j = (LinkJob *)job;
        Call *call = link_job_back(j);

        if (j->result < 0)
                (void)call_fail_with(call, &j->failure);
        else {
                call->bridge = j->bridge;
                call->bridge_known = true;
                call_resume(call);
        }
        free(j);
}

static void ensure_bridge_run(Job *job, void *context) {
        LinkJob *j = (LinkJob *)job;
        Netlink *nl = context;

        if (!link_job_lacks_netlink(j, nl))
                j->result = bridge_ensure(nl, &j->config, &j->bridge, &j->failure);
}

static void ensure_bridge_done(Job *job) {
        LinkJob *j = (LinkJob *)job;
        Call *call = link_job_back(j);

        if (j->result < 0)
                (void)call_fail_with(call, &j->failure);
        else {
                call->changed = true;
                (void)call_reply(call, "sis", j->config.bridge_name, j->bridge.ifindex,
                                 j->bridge.address);
        }
        free(j);
}

int method_ensure_bridge(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        Service *s = userdata;
        Failure f;
        int r;

        if (options_read(m, NULL, 0, &f) < 0)
                return errors_reply(m, &f);
        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        call_set_object(call, "%s", s->config->bridge_name);
        if (!call->bridge_known)
                return link_job_submit(call, &(LinkJob){}, inspect_bridge_run, inspect_bridge_done);
        if (call->bridge.complete) /* nothing to do: nothing to ask */
                return call_reply(call, "sis", s->config->bridge_name, call->bridge.ifindex,
                                  call->bridge.address);
        r = call_authorize(call, ACTION_MANAGE_BRIDGE, &(Details){.bridge = s->config->bridge_name});
        if (r != 0)
                return r;
        return link_job_submit(call, &(LinkJob){}, ensure_bridge_run, ensure_bridge_done);
}

/* --- RemoveBridge --- */

static void remove_bridge_run(Job *job, void *context) {
        LinkJob *j = (LinkJob *)job;
        Netlink *nl = context;

        if (!link_job_lacks_netlink(j, nl))
                j->result = bridge_remove(nl, &j->config, &j->failure);
}

/* That a link is missing or not ours is public, and told before polkit is asked. */
static int check_bridge_removable(Service *s, Failure *f) {
        const char *name = s->config->bridge_name;
        LinkEntry *e;

        link_table_sync(s->links);
        e = link_table_by_name(s->links, name);
        if (!e)
                return failure_set(f, FAILURE_NO_SUCH_BRIDGE,
                                   "There is no bridge %s; nothing to remove", name);
        if (e->link.kind != LINK_BRIDGE || e->link.alias.kind != ALIAS_IS_BRIDGE)
                return failure_set(f, FAILURE_NOT_OURS,
                                   "%s was not made by this service; whoever made it should remove it",
                                   name);
        return 0;
}

int method_remove_bridge(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        Service *s = userdata;
        Failure f;
        int r;

        if (options_read(m, NULL, 0, &f) < 0)
                return errors_reply(m, &f);
        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        call_set_object(call, "%s", s->config->bridge_name);
        if (check_bridge_removable(s, &f) < 0)
                return call_fail_with(call, &f);
        r = call_authorize(call, ACTION_MANAGE_BRIDGE, &(Details){.bridge = s->config->bridge_name});
        if (r != 0)
                return r;
        return link_job_submit(call, &(LinkJob){}, remove_bridge_run, link_job_finish);
}
