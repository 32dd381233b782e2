/* SPDX-License-Identifier: MIT */
#pragma once

/* How many taps a user has: as links, and as ones that the worker is just making. One that is both
 * counts once. */

#include "service.h"

/* A tap that the worker is to make: counted, and its name known, before the kernel reports it. */
typedef struct TapInMaking {
        const char *name;
        uid_t uid;
        const uint8_t *guest_mac; /* NULL: none */
        bool again;               /* an earlier one in the list is of the same name and uid */
        LIST_ENTRY(TapInMaking) in_list;
} TapInMaking;

typedef struct TapCount {
        unsigned taps;      /* with those that are being made */
        unsigned displaced; /* waiting for their delete, or about to be replaced */
} TapCount;

/* From now on it counts; begin and end in the order of the worker's queue. */
void tap_making_begin(Service *service, TapInMaking *making);
void tap_making_end(Service *service, TapInMaking *making);
/* uid UID_NONE: by anybody. */
bool tap_is_being_made(Service *service, const char *name, uid_t uid);
/* Another tap than uid's name has the address, or is to have it: also while its entry is away, which
 * an attacker can bring about. */
bool tap_guest_mac_is_taken(Service *service, const uint8_t mac[static 6], const char *name,
                            uid_t uid);

/* uid's; UID_NONE: everybody's. */
TapCount tap_count(Service *service, uid_t uid);
