/* SPDX-License-Identifier: MIT */
#pragma once

/* The configuration (fcproc.conf(5)): read whole, checked, and then never changed; a
 * reload makes a new one. */

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/cleanup.h"

typedef struct Config {
        char *firecracker_bin; /* "" where it was set to nothing */
        char bridge_name[IFNAMSIZ];
        int bridge_family; /* AF_INET or AF_INET6 */
        union {
                struct in_addr in;
                struct in6_addr in6;
        } bridge_ip;
        uint8_t cidr;
        char bridge_address[INET6_ADDRSTRLEN + 4]; /* ADDRESS/PREFIX */
        char *runtime_dir;
        char **socket_roots; /* NULL-terminated */
        char **tap_prefixes; /* NULL-terminated, at least one */
        bool port_isolation;
        uint64_t socket_timeout_usec;
        unsigned max_taps_per_user, max_waits_per_user, max_calls_per_user, max_polkit_per_user;
        unsigned max_taps, max_waits;
} Config;

/* Reads file and the drop-ins of file.d; with file NULL, /etc/banger/fcproc.conf (which need not
 * exist) and the drop-ins of /usr/lib/banger and /etc/banger in name order. Returns 0 or a
 * negative errno with *ret_reason ("FILE:LINE: why", malloc'ed) set. */
int config_load(const char *file, Config **ret, char **ret_reason);
void config_free(Config *config);
