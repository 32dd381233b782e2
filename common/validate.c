/* SPDX-License-Identifier: MIT */
/* What a caller may write: names, paths, labels, numbers. A name that passes here can be put
 * into a message, a log line, an alias and a netlink attribute as it is. */

#include <linux/limits.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "common/validate.h"

static bool is_lower_alnum(char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool link_name_valid(const char *name) {
        size_t n = strlen(name);

        if (n == 0 || n > TAP_NAME_MAX || !is_lower_alnum(name[0]))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!is_lower_alnum(name[i]) && !strchr("._-", name[i]))
                        return false;
        return strspn(name, "0123456789") < n;
}

int tap_name_check(const char *name, char *const *prefixes, Failure *f) {
        if (!link_name_valid(name))
                return failure_set(f, FAILURE_INVALID_ARGS,
                                   "'%.40s' is no name for a tap: use 1 to %d of a-z 0-9 . _ -, "
                                   "starting with a letter or digit and not all digits",
                                   name, TAP_NAME_MAX);
        for (char *const *p = prefixes; *p; p++)
                if (strncmp(name, *p, strlen(*p)) == 0)
                        return 0;
        return failure_set(f, FAILURE_INVALID_ARGS,
                           "'%s' does not start with '%s' or another of the configured "
                           "tap_prefixes; choose such a name",
                           name, prefixes[0] ? prefixes[0] : "");
}

bool path_valid(const char *path) {
        size_t length = strnlen(path, PATH_MAX);
        unsigned depth = 0;

        if (length >= PATH_MAX || length < 2 || path[0] != '/')
                return false;
        for (const char *p = path; *p;) {
                size_t n;

                if (++depth > PATH_DEPTH_MAX)
                        return false;
                p++; /* the slash */
                n = strcspn(p, "/");
                if (n == 0 || n > NAME_MAX || (n == 1 && p[0] == '.') ||
                    (n == 2 && p[0] == '.' && p[1] == '.'))
                        return false;
                for (size_t i = 0; i < n;) {
                        size_t sequence = utf8_sequence(p + i, n - i);

                        if (sequence == 0 ||
                            text_is_control(p + i, sequence)) /* it goes into messages */
                                return false;
                        i += sequence;
                }
                p += n;
        }
        return true;
}

int socket_path_check(const char *path, Failure *f) {
        if (path_valid(path))
                return 0;
        return failure_set(f, FAILURE_INVALID_ARGS,
                           "'%.200s' is no path for a socket: give an absolute path without '.', "
                           "'..', '//' or control characters, shorter than %d bytes and at most "
                           "%d names long",
                           path, PATH_MAX, PATH_DEPTH_MAX);
}

int label_check(const char *label, Failure *f) {
        size_t n = strnlen(label, 65);

        if (n == 0 || n > 64)
                return failure_set(f, FAILURE_INVALID_ARGS,
                                   "A label needs 1 to 64 bytes; it says what the socket is for, "
                                   "like 'web'");
        for (size_t i = 0; i < n; i++)
                if ((unsigned char)label[i] < 0x20 || label[i] == 0x7f || label[i] == '<' ||
                    label[i] == '>')
                        return failure_set(f, FAILURE_INVALID_ARGS,
                                           "The label holds a control character, '<' or '>'; use "
                                           "plain text like 'web'");
        return 0;
}

int pid_check(uint32_t pid, Failure *f) {
        if (pid > 0 && pid <= INT32_MAX)
                return 0;
        return failure_set(f, FAILURE_INVALID_ARGS, "%u is no process ID; give one from 1 to %d",
                           pid, INT32_MAX);
}

int mac_check(const char *text, uint8_t ret_mac[static 6], Failure *f) {
        static const char digits[] = "0123456789abcdef0123456789ABCDEF";
        uint8_t mac[6];

        if (strlen(text) != 17)
                goto invalid;
        for (int i = 0; i < 6; i++) {
                const char *high = strchr(digits, text[i * 3]),
                           *low = strchr(digits, text[i * 3 + 1]);

                if (!high || !low || (i < 5 && text[i * 3 + 2] != ':'))
                        goto invalid;
                mac[i] = (uint8_t)((((high - digits) & 15) << 4) | ((low - digits) & 15));
        }
        if ((mac[0] & 1) || memcmp(mac, "\0\0\0\0\0\0", 6) == 0)
                goto invalid;
        memcpy(ret_mac, mac, 6);
        return 0;

invalid:
        return failure_set(f, FAILURE_INVALID_ARGS,
                           "guest-mac '%.20s' is no unicast address; write it like "
                           "06:00:ac:10:00:02",
                           text);
}

void mac_format(const uint8_t mac[static 6], char ret_text[static 18]) {
        (void)snprintf(ret_text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
                       mac[3], mac[4], mac[5]);
}

bool uid_valid(uid_t uid) {
        return uid <= INT32_MAX && uid != 65534;
}

bool number_parse(const char *text, uint64_t max, uint64_t *ret) {
        uint64_t value = 0;

        if (!*text || (text[0] == '0' && text[1]))
                return false;
        for (const char *p = text; *p; p++) {
                if (*p < '0' || *p > '9' || __builtin_mul_overflow(value, 10, &value) ||
                    __builtin_add_overflow(value, *p - '0', &value))
                        return false;
        }
        if (value > max)
                return false;
        *ret = value;
        return true;
}
