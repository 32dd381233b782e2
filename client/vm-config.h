/* SPDX-License-Identifier: MIT */
#pragma once

/* What concerns the host in the file that Firecracker is configured with (--config-file): the taps
 * and the sockets it names. Everything else, mistakes too, is Firecracker's to read. */

#include "ctl.h"

typedef struct VmTap {
        char *name;      /* host_dev_name */
        char *guest_mac; /* NULL: the file gives none */
        int32_t ifindex; /* once it is made, else 0 */
} VmTap;

typedef struct VmConfig {
        VmTap *taps;
        size_t n_taps;
        char *vsock; /* uds_path, NULL if there is none */
} VmConfig;

/* Prints what is wrong with the file and returns the exit code. */
int vm_config_read(const Ctl *ctl, const char *path, VmConfig *ret);
void vm_config_done(VmConfig *config);
