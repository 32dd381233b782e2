/* SPDX-License-Identifier: MIT */
#pragma once

/* Which sockets there are: walks the runtime directory and the jailer's layout below the other
 * roots. Reads directories that users fill, so it is done on a worker and stops at a limit; where it
 * did, the result says so. */

#include "base/config.h"
#include "base/subuid.h"

#define SCAN_PATHS_MAX 65536
#define SCAN_SOCKETS_MAX 4096 /* of one directory: one user's must not crowd out another's */

typedef struct ScanPlan {
        char *runtime_dir;
        char **roots;
        size_t n_roots;
        SubuidRange *ranges;
        size_t n_ranges;
        uid_t uid; /* whose; UID_NONE: everybody's */
} ScanPlan;

/* A directory in which there is more than was looked at. */
typedef struct ScanCut {
        char *path;
        uid_t owner;
} ScanCut;

typedef struct ScanResult {
        char **paths;
        size_t n;
        ScanCut *cuts;
        size_t n_cuts;
        int error; /* negative errno where it could not be finished: out of descriptors or memory */
} ScanResult;

int scan_plan(const Config *config, const SubuidMap *subuids, uid_t uid, ScanPlan *ret);
void scan_plan_clear(ScanPlan *plan);
void scan_run(const ScanPlan *plan, ScanResult *ret);
void scan_result_clear(ScanResult *result);
/* Notes, once, that directory has more than was looked at; takes a copy. -ENOMEM. */
int scan_add_cut(ScanResult *result, const char *directory, uid_t owner);
