/* SPDX-License-Identifier: MIT */
#pragma once

/* Which sockets there are: walks the runtime directory and the jailer's layout below the other
 * roots. Reads directories that users fill, so it is done on a worker and stops at a limit. */

#include "config.h"
#include "subuid.h"

#define SCAN_PATHS_MAX 65536
#define SCAN_SOCKETS_MAX 1024 /* of one directory: one user's must not crowd out another's */

typedef struct ScanPlan {
        char *runtime_dir;
        char **roots;
        size_t n_roots;
        SubuidRange *ranges;
        size_t n_ranges;
        uid_t uid; /* whose; UID_NONE: everybody's */
} ScanPlan;

typedef struct ScanResult {
        char **paths;
        size_t n;
        bool cut; /* there were more than the limit */
} ScanResult;

int scan_plan(const Config *config, const SubuidMap *subuids, uid_t uid, ScanPlan *ret);
void scan_plan_clear(ScanPlan *plan);
void scan_run(const ScanPlan *plan, ScanResult *ret);
void scan_result_clear(ScanResult *result);
