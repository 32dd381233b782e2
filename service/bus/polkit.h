/* SPDX-License-Identifier: MIT */
#pragma once

/* Questions to polkit, and whose turn it is.
 *
 * One connection may have 128 calls without an answer (max_replies_per_connection of the bus), for
 * all users together. So:
 *
 *  - A question is first asked without a dialog, which polkitd answers at once. Only where somebody
 *    has to authenticate, and the caller allows it, is it asked again with one. The two have slots
 *    of their own: nobody's quick question waits for a person.
 *  - A slot is free when polkit has answered, not when the caller has gone.
 *  - Users take turns. Each has max_polkit_per_user slots of a kind at most. Where all dialogs are
 *    open the user with most of them gives one up to one who has two less: it is closed, and its
 *    call queues again.
 *  - What the bus refuses is asked later. */

#include "bus/peer.h"

typedef struct Polkit Polkit;
typedef struct PolkitQuestion PolkitQuestion;

typedef enum PolkitAnswer {
        POLKIT_YES,
        POLKIT_NO,
        POLKIT_CHALLENGE, /* somebody would have to authenticate */
        POLKIT_NONE,      /* no answer: polkit is absent, died or failed */
} PolkitAnswer;

/* Called once, from the loop; the question is gone after it. */
typedef void (*PolkitFunction)(PolkitAnswer answer, void *userdata);
/* Appends an a{ss}. */
typedef int (*PolkitDetailsFunction)(sd_bus_message *m, void *userdata);

int polkit_new(Service *service);
void polkit_free(Service *service);

/* Queues the question whether the connection subject, which is user's, may do action (a constant).
 * -ENOMEM. */
int polkit_ask(Service *service, User *user, const char *subject, const char *action, bool dialog,
               PolkitDetailsFunction details, PolkitFunction function, void *userdata,
               PolkitQuestion **ret);
/* Nobody wants the answer any more; function is not called. Its dialog is closed in a moment. */
void polkit_forget(PolkitQuestion *question);
