/* SPDX-License-Identifier: MIT */
/* /etc/subuid. A line is "user or uid:first:count"; what is not is passed over, as newuidmap(1)
 * does: one user's typing error must not take another's VMs away. */

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "base/subuid.h"
#include "common/cleanup.h"
#include "common/validate.h"

static bool user_of(const char *name, uid_t *ret) {
        struct passwd buffer, *found = NULL;
        uint64_t number;
        char text[4096];

        if (getpwnam_r(name, &buffer, text, sizeof(text), &found) == 0 && found) {
                *ret = found->pw_uid;
                return true;
        }
        if (!number_parse(name, INT32_MAX, &number))
                return false;
        *ret = (uid_t)number;
        return true;
}

static bool parse_line(char *line, SubuidRange *ret) {
        char *rest = line, *name = strsep(&rest, ":"), *first = strsep(&rest, ":"),
             *count = strsep(&rest, ":\n"); /* an empty field stays one */
        uint64_t f, c;
        uid_t user;

        if (!first || !count || !number_parse(first, INT32_MAX, &f) ||
            !number_parse(count, INT32_MAX, &c) || f == 0 || c == 0 || f + c - 1 > INT32_MAX ||
            (f <= 65534 && f + c > 65534) || !user_of(name, &user) || user == 0 || !uid_valid(user))
                return false;
        *ret = (SubuidRange){.first = (uid_t)f, .count = (uid_t)c, .user = user};
        return true;
}

static int by_first(const void *a, const void *b) {
        const SubuidRange *x = a, *y = b;

        return x->first < y->first ? -1 : x->first > y->first;
}

/* What two users could claim is nobody's; what one user has twice becomes one range. */
static int drop_overlapping(SubuidMap *map) {
        bool *drop = calloc(map->n_ranges + 1, sizeof(bool));
        size_t kept = 0, furthest = 0;

        if (!drop)
                return -ENOMEM;
        for (size_t i = 1; i < map->n_ranges; i++) {
                SubuidRange *far = &map->ranges[furthest], *r = &map->ranges[i];
                uint64_t far_end = (uint64_t)far->first + far->count,
                         end = (uint64_t)r->first + r->count;

                if (r->first < far_end && r->user == far->user) {
                        if (end > far_end)
                                far->count = (uid_t)(end - far->first);
                        drop[i] = true;
                        continue;
                }
                if (r->first < far_end)
                        drop[i] = drop[furthest] = true;
                if (end > far_end)
                        furthest = i;
        }
        for (size_t i = 0; i < map->n_ranges; i++)
                if (!drop[i])
                        map->ranges[kept++] = map->ranges[i];
        map->n_ranges = kept;
        free(drop);
        return 0;
}

int subuid_read(const char *file, SubuidMap *ret) {
        FILE *stream = fopen(file, "re");
        _cleanup_free_ char *line = NULL;
        SubuidMap map = {};
        size_t size = 0;

        if (!stream) {
                if (errno != ENOENT)
                        return -errno;
                *ret = map;
                return 0;
        }
        while (getline(&line, &size, stream) >= 0) {
                SubuidRange range, *more;

                if (!parse_line(line, &range))
                        continue;
                more = reallocarray(map.ranges, map.n_ranges + 1, sizeof(SubuidRange));
                if (!more) {
                        subuid_clear(&map);
                        (void)fclose(stream);
                        return -ENOMEM;
                }
                map.ranges = more;
                map.ranges[map.n_ranges++] = range;
        }
        (void)fclose(stream);
        if (map.n_ranges > 0)
                qsort(map.ranges, map.n_ranges, sizeof(SubuidRange), by_first);
        if (drop_overlapping(&map) < 0) {
                subuid_clear(&map);
                return -ENOMEM;
        }
        *ret = map;
        return 0;
}

void subuid_clear(SubuidMap *map) {
        free(map->ranges);
        *map = (SubuidMap){};
}

static const SubuidRange *find(const SubuidMap *map, uid_t uid) {
        size_t low = 0, high = map->n_ranges;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                const SubuidRange *r = &map->ranges[middle];

                if (uid < r->first)
                        high = middle;
                else if (uid - r->first >= r->count)
                        low = middle + 1;
                else
                        return r;
        }
        return NULL;
}

uid_t subuid_owner(const SubuidMap *map, uid_t uid) {
        const SubuidRange *r = find(map, uid);

        return r ? r->user : uid;
}

bool subuid_contains(const SubuidMap *map, uid_t uid) {
        return find(map, uid) != NULL;
}
