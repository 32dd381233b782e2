/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <sys/queue.h>

#include "base/loop.h"
#include "bus/offenders.h"
#include "common/cleanup.h"

#define WAIT_USEC (10 * USEC_PER_SEC)
#define WAIT_MAX_USEC (3600 * USEC_PER_SEC)
#define FORGET_USEC (24 * 3600 * USEC_PER_SEC) /* after the last time */

typedef struct Offender {
        uid_t uid;
        uint64_t last, wait; /* µs, CLOCK_MONOTONIC; how long from last */
        LIST_ENTRY(Offender) in_list;
} Offender;

static Offender *find(Service *s, uid_t uid) {
        uint64_t now = loop_now();
        Offender *o, *next;

        for (o = LIST_FIRST(&s->offenders); o; o = next) {
                next = LIST_NEXT(o, in_list);
                if (now - o->last > FORGET_USEC) {
                        LIST_REMOVE(o, in_list);
                        free(o);
                } else if (o->uid == uid)
                        return o;
        }
        return NULL;
}

void offenders_note(Service *s, uid_t uid) {
        Offender *o = uid == 0 ? NULL : find(s, uid);

        if (o)
                o->wait = MIN_OF(2 * o->wait, WAIT_MAX_USEC);
        else if (uid != 0 && (o = calloc(1, sizeof(*o)))) {
                *o = (Offender){.uid = uid, .wait = WAIT_USEC};
                LIST_INSERT_HEAD(&s->offenders, o, in_list);
        }
        if (o)
                o->last = loop_now();
}

uint64_t offenders_wait(Service *s, uid_t uid) {
        Offender *o = find(s, uid);
        uint64_t now = loop_now();

        return o && now < o->last + o->wait ? o->last + o->wait - now : 0;
}

void offenders_free(Service *s) {
        while (!LIST_EMPTY(&s->offenders)) {
                Offender *o = LIST_FIRST(&s->offenders);

                LIST_REMOVE(o, in_list);
                free(o);
        }
}
