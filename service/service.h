/* SPDX-License-Identifier: MIT */
#pragma once

/* The service: what main() makes and every method handler is given. Its parts are declared where they
 * are; who uses one includes that. */

#include <sys/queue.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/kernel.h"
#include "base/subuid.h"

#define FCPROC_NAME "org.banger.FcProc"
#define FCPROC_PATH "/org/banger/FcProc"
#define FCPROC_INTERFACE "org.banger.FcProc"

typedef struct BusPump BusPump;
typedef struct CallTable CallTable;
typedef struct Config Config;
typedef struct DirWatcher DirWatcher;
typedef struct Discovery Discovery;
typedef struct FdbWatch FdbWatch;
typedef struct Http Http;
typedef struct KnownSockets KnownSockets;
typedef struct LinkTable LinkTable;
typedef struct PeerTable PeerTable;
typedef struct Polkit Polkit;
typedef struct ProcessTable ProcessTable;
typedef struct TapReaper TapReaper;
typedef struct Worker Worker;

typedef struct Service {
        sd_event *event;
        sd_bus *bus;
        sd_bus_slot *intake;
        char *introspection; /* intake.c: what Introspect is answered with, NULL: not known yet */
        BusPump *pump;
        char *config_file; /* --config, or NULL */
        Config *config;
        Features features;
        SubuidMap subuids;
        bool subuids_read;   /* until then nobody is served: whose is it could not be told */
        Worker *link_worker; /* writes links */
        Worker *file_worker; /* reads what may wait for NSS */
        DirWatcher *dirs;
        TapReaper *reaper;
        LinkTable *links;
        FdbWatch *fdb_watch;
        ProcessTable *processes;
        Http *http;
        PeerTable *peers;
        CallTable *calls;
        Polkit *polkit;
        KnownSockets *known;
        Discovery *discovery;
        sd_event_source *subuid_watch;
        unsigned n_waits;                        /* over all users */
        LIST_HEAD(, TapInMaking) taps_in_making; /* see tap-count.h */
        LIST_HEAD(, Offender) offenders;         /* see offenders.h */
        bool looks_again;                        /* a timer is set, see tap-watch.c */
        bool stopping;
} Service;

/* Everything but the bus name. *ret_reason (malloc'ed) says what failed; it may stay NULL. */
int service_new(sd_event *event, const char *config_file, Service **ret, char **ret_reason);
void service_free(Service *service);
/* Connects, publishes the object, asks for the name; the name's arrival is reported to systemd. */
int service_connect(Service *service, char **ret_reason);
void service_reload(Service *service);
