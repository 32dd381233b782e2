/* SPDX-License-Identifier: MIT */
/* Putting the parts together, and what happens to the whole: start, reload, the bus going away,
 * the end. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "base/config.h"
#include "base/dir-watch.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/worker.h"
#include "bus/bus-pump.h"
#include "bus/call.h"
#include "bus/intake.h"
#include "bus/offenders.h"
#include "bus/polkit.h"
#include "common/cleanup.h"
#include "link/fdb-watch.h"
#include "link/link-table.h"
#include "link/tap-reaper.h"
#include "methods/interface.h"
#include "service.h"
#include "vm/http.h"
#include "vm/process.h"
#include "watch/discovery.h"
#include "watch/shutdown.h"
#include "watch/tap-watch.h"
#include "watch/wait.h"

#define SUBUID_FILE "/etc/subuid"

typedef struct SubuidJob {
        Job job; /* first */
        Service *service;
        SubuidMap map;
        int result;
} SubuidJob;

static void subuid_run(Job *job, void *context) {
        SubuidJob *j = (SubuidJob *)job;

        j->result = subuid_read(SUBUID_FILE, &j->map);
}

static int subuid_reload(Service *s);

static void subuid_done(Job *job) {
        SubuidJob *j = (SubuidJob *)job;
        Service *s = j->service;

        if (j->result == -ENOMEM && subuid_reload(s) >= 0) {
                free(j);
                return;
        }
        if (j->result < 0)
                log_message(LOG_WARNING, "%s cannot be read (%s); the ranges known before stay",
                            SUBUID_FILE, strerrordesc_np(-j->result));
        else {
                subuid_clear(&s->subuids);
                s->subuids = j->map;
                known_owners_changed(s);
                discovery_follow_subscribers(s);
        }
        if (!s->subuids_read) {
                s->subuids_read = true;
                calls_resume_all_unknown(s);
        }
        free(j);
}

static void subuid_drop(Job *job) {
        subuid_clear(&((SubuidJob *)job)->map);
        free(job);
}

static int subuid_reload(Service *s) {
        SubuidJob *j = calloc(1, sizeof(*j));

        if (!j)
                return -ENOMEM;
        j->job = (Job){.run = subuid_run, .done = subuid_done, .drop = subuid_drop};
        j->service = s;
        worker_submit(s->file_worker, &j->job);
        return 0;
}

static int on_etc(sd_event_source *source, const struct inotify_event *event, void *userdata) {
        if ((event->mask & IN_Q_OVERFLOW) || (event->len > 0 && strcmp(event->name, "subuid") == 0))
                (void)subuid_reload(userdata);
        return 0;
}

static int watch_subuid(Service *s) {
        int r = sd_event_add_inotify(s->event, &s->subuid_watch, "/etc",
                                     IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE, on_etc, s);

        if (r >= 0)
                r = sd_event_source_set_priority(s->subuid_watch, PRIORITY_CONTROL);
        return r < 0 ? r : subuid_reload(s);
}

static void on_process_exited(Process *process, void *userdata) {
        Service *s = userdata;

        wait_process_exited(s, process);
        known_process_gone(process);
        if (process->uid != UID_NONE)
                tap_watch_process_exited(s, subuid_owner(&s->subuids, process->uid));
}

static void on_peer_known(Peer *peer) {
        tap_watch_peer_known(peer->service, peer->name, peer->user->uid);
        calls_of_peer_resume(peer);
}

static void on_peer_gone(Peer *peer, bool was_subscribed) {
        calls_of_peer_gone(peer);
        watches_of_peer_gone(peer);
        if (was_subscribed)
                discovery_follow_subscribers(peer->service);
        tap_watch_peer_gone(peer->service, peer->name);
}

static void on_batch(bool failed, void *userdata) {
        Service *s = userdata;

        link_table_sync(s->links);
        if (failed)
                tap_watch_look_again(s);
        calls_resume_after_reap(s);
}

static int fail(char **ret_reason, int error, const char *what) {
        if (!*ret_reason && asprintf(ret_reason, "%s: %s", what, strerrordesc_np(-error)) < 0)
                *ret_reason = NULL;
        return error;
}

static void make_runtime_dir(const Config *c) {
        /* usually there already (tmpfiles.d); EnsureSocketDir checks it, and says what is wrong */
        if (mkdir(c->runtime_dir, 0711) == 0)
                (void)chmod(c->runtime_dir, 0711);
}

static void log_features(const Features *f) {
        log_message(LOG_INFO,
                    "This kernel has: peer-pidfd %s, exit-status %s, fchmodat2 %s, locked-port %s, live-rename %s",
                    f->peer_pidfd ? "yes" : "no (pid and start time instead)",
                    f->exit_status ? "yes" : "no (how a VMM ended is unknown)",
                    f->fchmodat2 ? "yes" : "no (by /proc)",
                    f->locked_port ? "yes" : "no (guest-mac is refused)",
                    f->live_rename ? "yes" : "no (in two steps)");
}

static int watch_links(Service *s) {
        int r = link_table_new(s->event, tap_watch_link_changed, tap_watch_reports_lost, s,
                               &s->links);

        return r < 0 ? r : fdb_watch_new(s->event, tap_watch_entries_gone, s, &s->fdb_watch);
}

int service_new(sd_event *event, const char *config_file, Service **ret, char **ret_reason) {
        Service *s = calloc(1, sizeof(*s));
        int r;

        *ret_reason = NULL;
        if (!s)
                return -ENOMEM;
        s->event = sd_event_ref(event);
        r = config_load(config_file, &s->config, ret_reason);
        if (r < 0)
                goto failed;
        if (config_file && !(s->config_file = strdup(config_file))) {
                r = -ENOMEM;
                goto failed;
        }
        make_runtime_dir(s->config);
        kernel_detect(&s->features);
        log_features(&s->features);

        r = process_table_new(event, &s->features, on_process_exited, s, &s->processes);
        if (r >= 0)
                r = peer_table_new(s, on_peer_known, on_peer_gone);
        if (r >= 0)
                r = polkit_new(s);
        if (r >= 0)
                r = call_table_new(s, interface_handler);
        if (r >= 0)
                r = dir_watcher_new(event, &s->dirs);
        if (r >= 0)
                r = discovery_new(s);
        if (r >= 0)
                r = worker_new(event, "link-writer", &netlink_context, &s->link_worker);
        if (r >= 0)
                r = worker_new(event, "file-reader", NULL, &s->file_worker);
        if (r >= 0)
                r = http_new(event, s->file_worker, &s->http);
        if (r >= 0)
                r = tap_reaper_new(event, on_batch, s, &s->reaper);
        if (r < 0) {
                (void)fail(ret_reason, r, "Starting");
                goto failed;
        }
        r = watch_links(s);
        if (r < 0) {
                (void)fail(ret_reason, r, "Reading the links over netlink");
                goto failed;
        }
        r = watch_subuid(s);
        if (r < 0) {
                (void)fail(ret_reason, r, "Watching " SUBUID_FILE);
                goto failed;
        }
        *ret = s;
        return 0;

failed:
        service_free(s);
        return r;
}

void service_free(Service *s) {
        if (!s)
                return;
        s->stopping = true;
        worker_free(s->link_worker);
        worker_free(s->file_worker);
        shutdown_free_all(s);
        call_table_free(s);
        polkit_free(s);
        offenders_free(s);
        discovery_free(s);
        dir_watcher_free(s->dirs);
        peer_table_free(s);
        tap_reaper_free(s->reaper);
        fdb_watch_free(s->fdb_watch);
        link_table_free(s->links);
        http_free(s->http);
        process_table_free(s->processes);
        sd_event_source_disable_unref(s->subuid_watch);
        intake_stop(s);
        bus_pump_free(s->pump);
        if (s->bus) {
                (void)sd_bus_flush(s->bus);
                sd_bus_close_unref(s->bus);
        }
        subuid_clear(&s->subuids);
        config_free(s->config);
        free(s->config_file);
        sd_event_unref(s->event);
        free(s);
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Service *s = userdata;

        log_message(LOG_ERR, "The system bus is gone; ending");
        /* not a success: the service manager starts us again, with the bus */
        return sd_event_exit(s->event, 1);
}

static int on_name(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Service *s = userdata;
        uint32_t result = 0;

        if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "u", &result) < 0 ||
            result != 1 /* primary owner */) {
                log_message(LOG_ERR, "The name %s cannot be had: %s", FCPROC_NAME,
                            sd_bus_message_is_method_error(m, NULL)
                                    ? sd_bus_message_get_error(m)->message ?: "the bus refused"
                                    : "another process owns it");
                return sd_event_exit(s->event, 1);
        }
        log_message(LOG_INFO, "fcprocd %s is ready", FCPROC_VERSION);
        (void)sd_notify(false, "READY=1\nSTATUS=Serving " FCPROC_NAME);
        (void)intake_learn_introspection(s);
        tap_watch_start(s);
        return 0;
}

int service_connect(Service *s, char **ret_reason) {
        int r;

        *ret_reason = NULL;
        r = sd_bus_open_system(&s->bus);
        if (r < 0)
                return fail(ret_reason, r, "Connecting to the system bus");
        (void)sd_bus_set_exit_on_disconnect(s->bus, false);
        r = intake_start(s);
        if (r >= 0)
                r = bus_pump_new(s->event, s->bus, &s->pump);
        if (r >= 0)
                r = interface_publish(s);
        if (r < 0)
                return fail(ret_reason, r, "Publishing " FCPROC_PATH);
        r = peer_table_listen(s);
        if (r >= 0)
                r = sd_bus_match_signal(s->bus, NULL, "org.freedesktop.DBus.Local",
                                        "/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local",
                                        "Disconnected", on_disconnected, s);
        if (r >= 0)
                r = sd_bus_request_name_async(s->bus, NULL, FCPROC_NAME, 0, on_name, s);
        if (r < 0)
                return fail(ret_reason, r, "Asking for the name " FCPROC_NAME);
        return 0;
}

void service_reload(Service *s) {
        _cleanup_free_ char *reason = NULL;
        Config *config;

        (void)sd_notify(false, "RELOADING=1");
        if (config_load(s->config_file, &config, &reason) < 0)
                log_message(LOG_ERR,
                            "The configuration was not reloaded, the old one stays in force: %s",
                            reason ?: "out of memory");
        else {
                config_free(s->config);
                s->config = config;
                make_runtime_dir(config);
                discovery_reload(s);
                interface_properties_changed(s);
                log_message(LOG_INFO, "The configuration was reloaded");
        }
        (void)sd_notify(false, "READY=1");
}
