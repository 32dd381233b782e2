/* SPDX-License-Identifier: MIT */
#pragma once

/* The real kernel, but for one call that is refused: links are really made and unmade, so use it in a
 * network namespace of its own. */

#include "base/kernel.h"

extern const Kernel real_kernel; /* service/base/kernel.c, compiled with another name */

typedef enum FaultPlace {
        FAULT_BEFORE, /* the request is not sent: the kernel did nothing */
        FAULT_AFTER   /* a netlink request is carried out, and its answer lost */
} FaultPlace;

/* Netlink requests (and tun ioctls) are counted from 1; number n fails. 0: none does. */
void faulty_set(unsigned n, int error, FaultPlace place);
/* How many there were since then. */
unsigned faulty_count(void);
