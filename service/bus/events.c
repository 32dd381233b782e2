/* SPDX-License-Identifier: MIT */
/* Telling. A broadcast would tell every user of the machine who runs what, so each signal is
 * addressed: to those who wait for the process, and to subscribers of its owner's uid. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "bus/errors.h"
#include "bus/events.h"
#include "common/cleanup.h"
#include "link/netlink.h"
#include "vm/process.h"

unsigned long events_new_stamp(void) {
        static unsigned long stamp;

        return ++stamp;
}

bool events_may_see(const Peer *peer, uid_t uid) {
        return peer->subscribed && peer->user && (peer->user->uid == 0 || peer->user->uid == uid);
}

bool events_has_subscriber(Service *s, uid_t uid) {
        for (Peer *p = peer_next(s, NULL); p; p = peer_next(s, p))
                if (events_may_see(p, uid))
                        return true;
        return false;
}

static sd_bus_message *new_signal(Peer *peer, const char *name) {
        sd_bus_message *m = NULL;

        if (sd_bus_message_new_signal(peer->service->bus, &m, FCPROC_PATH, FCPROC_INTERFACE, name) <
                    0 ||
            sd_bus_message_set_destination(m, peer->name) < 0)
                return sd_bus_message_unref(m);
        return m;
}

static int append_more(sd_bus_message *m, uint64_t pidfd_inode) {
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        if (r >= 0 && pidfd_inode != 0)
                r = sd_bus_message_append(m, "{sv}", "pidfd-inode", "t", pidfd_inode);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static void send_signal(sd_bus_message *m, int r) {
        if (r >= 0)
                r = sd_bus_send(NULL, m, NULL);
        if (r < 0)
                log_message(LOG_WARNING, "A signal could not be sent: %s", strerrordesc_np(-r));
}

void events_send_appeared(Peer *peer, Process *process, uid_t uid, const char *api_sock) {
        _cleanup_message_ sd_bus_message *m = new_signal(peer, "ProcessAppeared");
        int r = m ? sd_bus_message_append(m, "uus", (uint32_t)process->pid, uid, api_sock) : -ENOMEM;

        if (r >= 0)
                r = append_more(m, process->pidfd_inode);
        send_signal(m, r);
}

void events_process_appeared(Service *s, Process *process, uid_t uid, const char *api_sock) {
        for (Peer *p = peer_next(s, NULL); p; p = peer_next(s, p))
                if (events_may_see(p, uid))
                        events_send_appeared(p, process, uid, api_sock);
}

void events_send_exited(Peer *peer, pid_t pid, uid_t uid, const char *api_sock,
                        const ProcessExit *exit, uint64_t pidfd_inode) {
        _cleanup_message_ sd_bus_message *m = new_signal(peer, "ProcessExited");
        int r = m ? sd_bus_message_append(m, "uussit", (uint32_t)pid, uid, api_sock,
                                          exit_cause_name(exit->cause), exit->status,
                                          exit->at_realtime)
                  : -ENOMEM;

        if (r >= 0)
                r = append_more(m, pidfd_inode);
        send_signal(m, r);
}

void events_send_wait_timed_out(Peer *peer, const Process *process, const char *api_sock) {
        _cleanup_message_ sd_bus_message *m = new_signal(peer, "WaitTimedOut");
        int r = m ? sd_bus_message_append(m, "us", (uint32_t)process->pid, api_sock) : -ENOMEM;

        if (r >= 0)
                r = append_more(m, process->pidfd_inode);
        send_signal(m, r);
}

void events_tap(Service *s, const char *signal, const Link *link) {
        for (Peer *p = peer_next(s, NULL); p; p = peer_next(s, p)) {
                _cleanup_message_ sd_bus_message *m = NULL;
                int r;

                if (!events_may_see(p, link->alias.uid))
                        continue;
                m = new_signal(p, signal);
                r = m ? sd_bus_message_append(m, "siu", link->name, link->ifindex, link->alias.uid)
                      : -ENOMEM;
                if (r >= 0)
                        r = append_more(m, 0);
                send_signal(m, r);
        }
}
