/* SPDX-License-Identifier: MIT */
#pragma once

/* Who calls: connections (peers) and the users behind them. A caller's uid is what the bus says
 * it is (GetConnectionCredentials), asked once for each connection, without waiting for it. */

#include <stdbool.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "common/failure.h"
#include "service.h"

struct Call;
struct KnownSocket;
struct PolkitQuestion;
struct WaitWatch;

/* polkit.c's: a user's questions, by kind. */
typedef enum PolkitKind {
        POLKIT_QUICK,
        POLKIT_DIALOG,
        _POLKIT_KINDS
} PolkitKind;

TAILQ_HEAD(PolkitQuestions, PolkitQuestion);

typedef struct PolkitShare {
        unsigned running; /* asked, and not answered yet */
        struct PolkitQuestions queue, asked;
} PolkitShare;

/* What was read from the bus of somebody's, see intake.c. */
typedef struct Intake {
        uint64_t since;
        unsigned messages;
        bool told; /* in the log, that they are too many */
} Intake;

typedef struct User {
        uid_t uid;
        unsigned refs;
        unsigned calls, waits;
        PolkitShare polkit[_POLKIT_KINDS];
        TAILQ_ENTRY(User) in_polkit_turns[_POLKIT_KINDS];
        Intake intake;
        unsigned asks_running, known_sockets;
        TAILQ_HEAD(, KnownSocket) ask_queue; /* sockets of his that are to be asked what they are */
        LIST_ENTRY(User) in_list;
} User;

typedef struct Peer {
        Service *service;
        unsigned refs;
        char *name; /* unique */
        User *user; /* NULL until the bus has told */
        bool gone, subscribed;
        bool unknown;  /* gone for us: whose it is could not be told. Its calls are answered. */
        Intake intake; /* until the bus has told */
        unsigned long stamp; /* of the last event that was sent to it, see events.c */
        sd_bus_slot *query;
        TAILQ_HEAD(, Call) calls;
        LIST_HEAD(, WaitWatch) watches;
        LIST_ENTRY(Peer) in_bucket;
} Peer;

typedef void (*PeerKnownFunction)(Peer *peer);
typedef void (*PeerGoneFunction)(Peer *peer, bool was_subscribed);

/* on_known: the bus has told whose it is. on_gone: the connection is closed; all of its is to go. */
int peer_table_new(Service *service, PeerKnownFunction on_known, PeerGoneFunction on_gone);
void peer_table_free(Service *service);
/* Starts listening for vanished connections. */
int peer_table_listen(Service *service);

/* The peer of this unique name; the bus is asked when it is new. */
int peer_get(Service *service, const char *name, Peer **ret);
Peer *peer_find(Service *service, const char *name);
Peer *peer_ref(Peer *peer);
Peer *peer_unref(Peer *peer);
/* NULL: the first. */
Peer *peer_next(Service *service, Peer *after);

int user_get(Service *service, uid_t uid, User **ret);
User *user_next(Service *service, User *after); /* NULL: the first */
User *user_ref(User *user);
User *user_unref(User *user);

/* Counts one more wait of user's: LIMITS_EXCEEDED. */
int user_begin_wait(Service *service, User *user, Failure *f);
void user_end_wait(Service *service, User *user);
