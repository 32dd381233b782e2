/* SPDX-License-Identifier: MIT */
#pragma once

#include "bus/call.h"
#include "bus/tap-count.h"
#include "link/tap.h"

/* A job that comes back to a call. Config and Features are copied: a reload may come between. */
typedef struct LinkJob {
        Job job; /* first */
        Service *service;
        Call *call;
        Config config; /* bridge_* only; its pointers are not touched on the worker */
        Features features;
        BridgeState bridge;
        TapSpec spec;
        TapInMaking making;
        TapMade made;
        int ifindex; /* of an existing tap, with its name and owner */
        char name[IFNAMSIZ];
        uid_t uid;
        int result;
        Failure failure;
} LinkJob;

/* Copies init, fills in the rest and hands it to the worker that writes links; the call is parked.
 * Returns what the handler is to return. */
int link_job_submit(Call *call, const LinkJob *init, void (*run)(Job *job, void *context),
                    void (*done)(Job *job));

/* At the start of run: true, with the failure set, where the worker has no socket. */
bool link_job_lacks_netlink(LinkJob *job, Netlink *nl);
/* At the start of done: brings the table of links up to date. The job is still to be freed. */
Call *link_job_back(LinkJob *job);
/* A done for jobs whose reply has no arguments. */
void link_job_finish(Job *job);
