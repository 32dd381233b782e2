/* SPDX-License-Identifier: MIT */
#pragma once

/* What a call remembers of the question that polkit was asked for it. authorize.c decides by it. */

#include <stdbool.h>
#include <sys/types.h>

/* What rules can look up, as far as a method has it. */
typedef struct Details {
        const char *tap, *bridge, *api_sock; /* NULL: none */
        pid_t pid;                           /* 0: none */
        uid_t owner_uid;                     /* UID_NONE: none, or not one */
        bool has_owner;
        bool never_prompt; /* lists: an answer, or a refusal, without a question */
        bool disputed;     /* its parts name different owners: nobody's own */
} Details;

typedef enum AuthorizationState {
        AUTHORIZATION_NOT_ASKED,
        AUTHORIZATION_ASKED,
        AUTHORIZATION_ALLOWED,
        AUTHORIZATION_DENIED,
        AUTHORIZATION_CHALLENGE,
        AUTHORIZATION_FAILED, /* no answer from polkit */
} AuthorizationState;

typedef struct Authorization {
        AuthorizationState state;
        bool asked_again;
        const char *action;
        char *question;  /* action and details, to compare */
        Details details; /* tap and api_sock are the message's, bridge the next line's */
        char bridge[16]; /* IFNAMSIZ: a reload may free the configuration's */
        struct PolkitQuestion *pending; /* while ASKED */
} Authorization;

/* Gives the question up. */
void authorization_clear(Authorization *authorization);
