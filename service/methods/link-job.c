/* SPDX-License-Identifier: MIT */
/* The way of a method to the worker that writes links, and back. */

#include <errno.h>

#include "base/worker.h"
#include "bus/errors.h"
#include "common/failure.h"
#include "link/link-table.h"
#include "link/netlink.h"
#include "methods/link-job.h"

static void drop_job(Job *job) {
        free(job);
}

int link_job_submit(Call *call, const LinkJob *init, void (*run)(Job *job, void *context),
                    void (*done)(Job *job)) {
        LinkJob *j = calloc(1, sizeof(*j));

        if (!j)
                return call_fail_oom(call);
        *j = *init;
        j->job = (Job){.run = run, .done = done, .drop = drop_job, .user = call->user->uid};
        j->service = call->service;
        j->call = call;
        j->config = *call->service->config;
        j->features = call->service->features;
        if (*j->spec.name) {
                j->making.name = j->spec.name;
                j->making.uid = call->user->uid;
                j->making.guest_mac = j->spec.has_guest_mac ? j->spec.guest_mac : NULL;
                tap_making_begin(call->service, &j->making);
        }
        call->with_worker = true;
        worker_submit(call->service->link_worker, &j->job);
        return call_park(call);
}

/* Back on the loop: the table first holds what the job did. */
Call *link_job_back(LinkJob *j) {
        link_table_sync(j->service->links);
        j->call->with_worker = false;
        return j->call;
}

bool link_job_lacks_netlink(LinkJob *j, Netlink *nl) {
        if (nl)
                return false;
        j->result = failure_kernel(&j->failure, j->job.no_context, NULL, "Opening a netlink socket");
        return true;
}

void link_job_finish(Job *job) {
        LinkJob *j = (LinkJob *)job;
        Call *call = link_job_back(j);

        if (j->result < 0)
                (void)call_fail_with(call, &j->failure);
        else {
                call->changed = true;
                (void)call_reply(call, NULL);
        }
        free(j);
}
