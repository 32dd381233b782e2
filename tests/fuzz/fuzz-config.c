/* SPDX-License-Identifier: MIT */
/* Guards service/base/config.c and service/base/subuid.c: whatever the files hold, they are read whole and
 * sane, or refused with a reason. As root, since a configuration must be root's. */

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/config.h"
#include "base/subuid.h"
#include "common/validate.h"
#include "fuzz.h"

static void check_config(const char *path) {
        char *reason = NULL;
        Config *c;

        if (config_load(path, &c, &reason) < 0) {
                if (!reason || !*reason)
                        abort();
                free(reason);
                return;
        }
        if (!path_valid(c->runtime_dir) || !link_name_valid(c->bridge_name) ||
            !c->tap_prefixes[0] || c->cidr == 0 || c->max_taps == 0 || c->max_calls_per_user == 0 ||
            !strchr(c->bridge_address, '/'))
                abort();
        for (char **root = c->socket_roots; *root; root++)
                if (!path_valid(*root))
                        abort();
        config_free(c);
}

static void check_subuid(const char *path) {
        SubuidMap map;

        if (subuid_read(path, &map) < 0)
                abort();
        for (size_t i = 0; i < map.n_ranges; i++) {
                const SubuidRange *r = &map.ranges[i];

                if (r->first == 0 || r->count == 0 || r->user == 0 || !uid_valid(r->user) ||
                    (uint64_t)r->first + r->count - 1 > INT32_MAX ||
                    (i > 0 && (uint64_t)r[-1].first + r[-1].count > r->first) ||
                    subuid_owner(&map, r->first + r->count - 1) != r->user)
                        abort();
        }
        subuid_clear(&map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const char section[] = "[fcproc]\n";
        int fd = memfd_create("fuzz", MFD_CLOEXEC);
        char path[32];

        if (fd < 0 || fchmod(fd, 0600) < 0)
                abort();
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (write(fd, data, size) != (ssize_t)size)
                abort();
        check_config(path);
        check_subuid(path);
        if (pwrite(fd, section, sizeof(section) - 1, 0) != sizeof(section) - 1 ||
            pwrite(fd, data, size, sizeof(section) - 1) != (ssize_t)size)
                abort();
        check_config(path);
        (void)close(fd);
        return 0;
}
