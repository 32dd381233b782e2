/* SPDX-License-Identifier: MIT */
/* Connections and users.
 *
 * One match for every connection that vanishes serves all peers: a reply to
 * GetConnectionCredentials means that the connection was there, and whatever happens to it later
 * comes after that reply. Unique names are never used twice while the bus lives. */

#include <errno.h>
#include <string.h>

#include "base/config.h"
#include "base/log.h"
#include "bus/errors.h"
#include "bus/peer.h"
#include "common/cleanup.h"
#include "common/failure.h"

#define BUCKETS 256
#define BUS "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"

struct PeerTable {
        LIST_HEAD(, Peer) buckets[BUCKETS];
        LIST_HEAD(, User) users;
        sd_bus_slot *vanished;
        PeerKnownFunction on_known;
        PeerGoneFunction on_gone;
};

static unsigned hash_name(const char *name) {
        unsigned h = 5381;

        for (; *name; name++)
                h = h * 33 + (unsigned char)*name;
        return h % BUCKETS;
}

int user_get(Service *s, uid_t uid, User **ret) {
        User *u;

        LIST_FOREACH(u, &s->peers->users, in_list)
                if (u->uid == uid) {
                        *ret = user_ref(u);
                        return 0;
                }
        u = calloc(1, sizeof(*u));
        if (!u)
                return -ENOMEM;
        u->uid = uid;
        u->refs = 1;
        for (PolkitKind kind = 0; kind < _POLKIT_KINDS; kind++) {
                TAILQ_INIT(&u->polkit[kind].queue);
                TAILQ_INIT(&u->polkit[kind].asked);
        }
        TAILQ_INIT(&u->ask_queue);
        LIST_INSERT_HEAD(&s->peers->users, u, in_list);
        *ret = u;
        return 0;
}

User *user_next(Service *s, User *after) {
        return after ? LIST_NEXT(after, in_list) : LIST_FIRST(&s->peers->users);
}

User *user_ref(User *user) {
        user->refs++;
        return user;
}

User *user_unref(User *user) {
        if (!user || --user->refs > 0)
                return NULL;
        LIST_REMOVE(user, in_list);
        free(user);
        return NULL;
}

Peer *peer_ref(Peer *peer) {
        peer->refs++;
        return peer;
}

Peer *peer_unref(Peer *peer) {
        if (!peer || --peer->refs > 0)
                return NULL;
        sd_bus_slot_unref(peer->query);
        user_unref(peer->user);
        free(peer->name);
        free(peer);
        return NULL;
}

Peer *peer_next(Service *s, Peer *after) {
        unsigned bucket = 0;

        if (after) {
                if (LIST_NEXT(after, in_bucket))
                        return LIST_NEXT(after, in_bucket);
                bucket = hash_name(after->name) + 1;
        }
        for (; bucket < BUCKETS; bucket++)
                if (!LIST_EMPTY(&s->peers->buckets[bucket]))
                        return LIST_FIRST(&s->peers->buckets[bucket]);
        return NULL;
}

Peer *peer_find(Service *s, const char *name) {
        Peer *p;

        LIST_FOREACH(p, &s->peers->buckets[hash_name(name)], in_bucket)
                if (strcmp(p->name, name) == 0)
                        return p;
        return NULL;
}

/* The connection is gone, or nobody can say whose it is: everything of its is given up. */
static void peer_drop(Peer *p) {
        Service *s = p->service;
        bool was_subscribed = p->subscribed;

        if (p->gone)
                return;
        p->gone = true;
        p->subscribed = false;
        p->query = sd_bus_slot_unref(p->query);
        LIST_REMOVE(p, in_bucket);
        s->peers->on_gone(p, was_subscribed);
        peer_unref(p);
}

static int read_uid(sd_bus_message *m, uid_t *ret) {
        const char *key;
        uint32_t uid;
        int r;

        *ret = UID_NONE;
        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &key);
                if (r < 0)
                        break;
                if (strcmp(key, "UnixUserID") == 0) {
                        r = sd_bus_message_read(m, "v", "u", &uid);
                        if (r >= 0)
                                *ret = uid;
                } else
                        r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : *ret == UID_NONE ? -ENODATA : 0;
}

static int on_credentials(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Peer *p = userdata;
        uid_t uid;
        int r;

        p->query = sd_bus_slot_unref(p->query);
        if (sd_bus_message_is_method_error(m, NULL)) {
                peer_drop(p);
                return 0;
        }
        r = read_uid(m, &uid);
        if (r >= 0)
                r = user_get(p->service, uid, &p->user);
        if (r < 0) {
                log_message(LOG_WARNING, "The bus did not say who %s is: %s", p->name,
                            strerrordesc_np(-r));
                p->unknown = true;
                peer_drop(p);
                return 0;
        }
        p->service->peers->on_known(p);
        return 0;
}

int peer_get(Service *s, const char *name, Peer **ret) {
        Peer *p = peer_find(s, name);
        int r;

        if (p) {
                *ret = p;
                return 0;
        }
        p = calloc(1, sizeof(*p));
        if (!p)
                return -ENOMEM;
        p->service = s;
        p->refs = 1; /* the table's */
        TAILQ_INIT(&p->calls);
        LIST_INIT(&p->watches);
        p->name = strdup(name);
        r = p->name ? sd_bus_call_method_async(s->bus, &p->query, BUS, "GetConnectionCredentials",
                                               on_credentials, p, "s", name)
                    : -ENOMEM;
        if (r < 0) {
                peer_unref(p);
                return r;
        }
        LIST_INSERT_HEAD(&s->peers->buckets[hash_name(name)], p, in_bucket);
        *ret = p;
        return 0;
}

static int on_vanished(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *sender = sd_bus_message_get_sender(m), *name, *old, *new;
        Service *s = userdata;
        Peer *p;

        /* the match asks for the bus driver's own; a signal sent to us alone need not match it */
        if (!sender || strcmp(sender, "org.freedesktop.DBus") != 0 ||
            sd_bus_message_read(m, "sss", &name, &old, &new) < 0 || *new || name[0] != ':')
                return 0;
        p = peer_find(s, name);
        if (p)
                peer_drop(p);
        return 0;
}

int peer_table_listen(Service *s) {
        return sd_bus_add_match_async(
                s->bus, &s->peers->vanished,
                "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''",
                on_vanished, NULL, s);
}

int peer_table_new(Service *s, PeerKnownFunction on_known, PeerGoneFunction on_gone) {
        s->peers = calloc(1, sizeof(PeerTable));
        if (!s->peers)
                return -ENOMEM;
        s->peers->on_known = on_known;
        s->peers->on_gone = on_gone;
        return 0;
}

int user_begin_wait(Service *s, User *u, Failure *f) {
        if (s->n_waits >= s->config->max_waits)
                return failure_set(f, FAILURE_LIMITS_EXCEEDED,
                                   "All users together have %u waits, which is the limit "
                                   "(max_waits); try later",
                                   s->n_waits);
        if (u->uid != 0 && u->waits >= s->config->max_waits_per_user)
                return failure_set(f, FAILURE_LIMITS_EXCEEDED,
                                   "uid %u has %u waits, which is the limit (max_waits_per_user)",
                                   u->uid, u->waits);
        u->waits++;
        s->n_waits++;
        return 0;
}

void user_end_wait(Service *s, User *u) {
        u->waits--;
        s->n_waits--;
}

void peer_table_free(Service *s) {
        Peer *p;

        if (!s->peers)
                return;
        while ((p = peer_next(s, NULL)))
                peer_drop(p);
        sd_bus_slot_unref(s->peers->vanished);
        free(s->peers);
        s->peers = NULL;
}
