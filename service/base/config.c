/* SPDX-License-Identifier: MIT */
/* Reading fcproc.conf and its drop-ins with inih.
 *
 * Everything in it steers a privileged program, so every file must be root's alone to write, and
 * one wrong line refuses the whole: a service that starts with half of what its administrator
 * wrote is worse than one that says where the mistake is. */

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/config.h"
#include "common/validate.h"

typedef struct Reader {
        Config *config;
        char reason[256];
        FILE *stream;
        int line, reason_line; /* the line that is read; the one that reason is about */
        char cidr_at[256];     /* where cidr was set: whether it fits is known only at the end */
        const char *file;
} Reader;

typedef int (*SetFunction)(Reader *r, void *field, const char *key, const char *value);

static int refuse(Reader *r, const char *key, const char *value, const char *expected) {
        (void)snprintf(r->reason, sizeof(r->reason), "%s = '%.80s': %s", key, value, expected);
        return -EINVAL;
}

static void strv_free(char **list) {
        for (char **s = list; s && *s; s++)
                free(*s);
        free(list);
}

/* Splits at spaces and commas. */
static char **strv_split(const char *text) {
        char **list = calloc(strlen(text) / 2 + 2, sizeof(char *));
        size_t n = 0;

        for (const char *p = text + strspn(text, " \t,"); list && *p; p += strspn(p, " \t,")) {
                size_t length = strcspn(p, " \t,");

                list[n] = strndup(p, length);
                if (!list[n++]) {
                        strv_free(list);
                        return NULL;
                }
                p += length;
        }
        return list;
}

static int replace_string(char **field, const char *value) {
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        free(*field);
        *field = copy;
        return 0;
}

static int replace_list(char ***field, char **list) {
        strv_free(*field);
        *field = list;
        return 0;
}

static int set_binary(Reader *r, void *field, const char *key, const char *value) {
        if (*value && (*value == '/' ? !path_valid(value) : strchr(value, '/') != NULL))
                return refuse(r, key, value, "give an absolute path, or a name to look up in PATH");
        return replace_string(field, value);
}

static int set_bridge_name(Reader *r, void *field, const char *key, const char *value) {
        if (!link_name_valid(value))
                return refuse(r, key, value, "no name for a bridge (at most 15 of a-z 0-9 . _ -)");
        (void)snprintf(field, IFNAMSIZ, "%s", value);
        return 0;
}

static int set_bridge_ip(Reader *r, void *field, const char *key, const char *value) {
        Config *c = r->config;
        struct in_addr in;
        struct in6_addr in6;

        if (inet_pton(AF_INET, value, &in) == 1) {
                uint32_t host = ntohl(in.s_addr);

                if (host >> 24 == 0 || host >> 24 == 127 || host >> 28 >= 14)
                        return refuse(r, key, value, "not an address that a host can have");
                c->bridge_family = AF_INET;
                c->bridge_ip.in = in;
                return 0;
        }
        if (inet_pton(AF_INET6, value, &in6) == 1) {
                if (IN6_IS_ADDR_UNSPECIFIED(&in6) || IN6_IS_ADDR_LOOPBACK(&in6) ||
                    IN6_IS_ADDR_MULTICAST(&in6) || IN6_IS_ADDR_V4MAPPED(&in6))
                        return refuse(r, key, value, "not an address that a host can have");
                c->bridge_family = AF_INET6;
                c->bridge_ip.in6 = in6;
                return 0;
        }
        return refuse(r, key, value, "neither an IPv4 nor an IPv6 address");
}

static int set_cidr(Reader *r, void *field, const char *key, const char *value) {
        uint64_t n;

        if (!number_parse(value, 128, &n) || n == 0)
                return refuse(r, key, value, "a prefix length is a number from 1 to 32, or to 128");
        *(uint8_t *)field = (uint8_t)n;
        if (r->file)
                (void)snprintf(r->cidr_at, sizeof(r->cidr_at), "%s:%d: ", r->file, r->line);
        return 0;
}

static int set_path(Reader *r, void *field, const char *key, const char *value) {
        if (!path_valid(value))
                return refuse(r, key, value, "an absolute path without '.', '..' and '//'");
        return replace_string(field, value);
}

static int set_roots(Reader *r, void *field, const char *key, const char *value) {
        char **list = strv_split(value);

        if (!list)
                return -ENOMEM;
        for (char **s = list; *s; s++)
                if (!path_valid(*s)) {
                        strv_free(list);
                        return refuse(r, key, value, "absolute paths without '.', '..' and '//'");
                }
        return replace_list(field, list);
}

static int set_prefixes(Reader *r, void *field, const char *key, const char *value) {
        char **list = strv_split(value);
        bool valid;

        if (!list)
                return -ENOMEM;
        valid = list[0] != NULL;
        for (char **s = list; *s; s++) {
                char name[64];

                /* a prefix is good when a name can begin with it */
                (void)snprintf(name, sizeof(name), "%.40sa", *s);
                valid = valid && link_name_valid(name);
        }
        if (!valid) {
                strv_free(list);
                return refuse(r, key, value, "one or more beginnings of names (a-z 0-9 . _ -)");
        }
        return replace_list(field, list);
}

static int set_boolean(Reader *r, void *field, const char *key, const char *value) {
        static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false",
                                                                                    "off", "0"};

        for (size_t i = 0; i < ELEMENTS(yes); i++) {
                if (strcasecmp(value, yes[i]) == 0) {
                        *(bool *)field = true;
                        return 0;
                }
                if (strcasecmp(value, no[i]) == 0) {
                        *(bool *)field = false;
                        return 0;
                }
        }
        return refuse(r, key, value, "yes or no");
}

static int set_seconds(Reader *r, void *field, const char *key, const char *value) {
        uint64_t n;

        if (!number_parse(value, 86400, &n))
                return refuse(r, key, value, "a number of seconds from 0 to 86400");
        *(uint64_t *)field = n * USEC_PER_SEC;
        return 0;
}

static int set_limit(Reader *r, void *field, const char *key, const char *value) {
        uint64_t n;

        if (!number_parse(value, 1000000, &n) || n == 0)
                return refuse(r, key, value, "a number from 1 to 1000000");
        *(unsigned *)field = (unsigned)n;
        return 0;
}

static const struct {
        const char *key;
        SetFunction set;
        size_t offset;
        const char *by_default;
} keys[] = {
        {"firecracker_bin", set_binary, offsetof(Config, firecracker_bin), "firecracker"},
        {"bridge_name", set_bridge_name, offsetof(Config, bridge_name), "br-fc"},
        {"bridge_ip", set_bridge_ip, 0, "172.16.0.1"},
        {"cidr", set_cidr, offsetof(Config, cidr), "24"},
        {"runtime_dir", set_path, offsetof(Config, runtime_dir), "/run/banger"},
        {"socket_roots", set_roots, offsetof(Config, socket_roots), ""},
        {"tap_prefixes", set_prefixes, offsetof(Config, tap_prefixes), "tap fc"},
        {"port_isolation", set_boolean, offsetof(Config, port_isolation), "yes"},
        {"socket_timeout_sec", set_seconds, offsetof(Config, socket_timeout_usec), "5"},
        {"max_taps_per_user", set_limit, offsetof(Config, max_taps_per_user), "64"},
        {"max_waits_per_user", set_limit, offsetof(Config, max_waits_per_user), "1024"},
        {"max_calls_per_user", set_limit, offsetof(Config, max_calls_per_user), "64"},
        {"max_polkit_per_user", set_limit, offsetof(Config, max_polkit_per_user), "8"},
        {"max_taps", set_limit, offsetof(Config, max_taps), "1000"},
        {"max_waits", set_limit, offsetof(Config, max_waits), "65536"},
};

/* ini_reader: as fgets(3). */
static char *read_line(char *buffer, int size, void *userdata) {
        Reader *r = userdata;

        const char *mistake = NULL;
        size_t n;

        r->line++;
        if (!fgets(buffer, size, r->stream))
                return NULL;
        n = strlen(buffer);
        if (n == 0 || (buffer[n - 1] != '\n' && !feof(r->stream))) {
                mistake = "the line is too long, or holds a NUL byte";
                for (int c = 0; c != '\n' && c != EOF;)
                        c = fgetc(r->stream);
        } else if ((buffer[0] == ' ' || buffer[0] == '\t') && buffer[strspn(buffer, " \t\r\n")])
                mistake = "the line begins with a space"; /* to inih, more of the value before */
        if (mistake) {
                if (!r->reason[0]) {
                        (void)snprintf(r->reason, sizeof(r->reason), "%s", mistake);
                        r->reason_line = r->line;
                }
                (void)strcpy(buffer, "\n");
        }
        return buffer;
}

/* ini_handler: 0 stops with this line's number. */
static int on_line(void *user, const char *section, const char *key, const char *value) {
        Reader *r = user;

        if (r->reason[0]) /* inih goes on after the first mistake */
                return 0;
        r->reason_line = r->line;

        if (strcmp(section, "fcproc") != 0) {
                (void)snprintf(r->reason, sizeof(r->reason),
                               "'%.60s' stands in section [%.40s]; settings belong to [fcproc]",
                               key, section);
                return 0;
        }
        for (size_t i = 0; i < ELEMENTS(keys); i++)
                if (strcmp(key, keys[i].key) == 0)
                        return keys[i].set(r, (char *)r->config + keys[i].offset, key, value) >= 0;
        (void)snprintf(r->reason, sizeof(r->reason), "unknown key '%.60s'; fcproc.conf(5) has all",
                       key);
        return 0;
}

static int read_file(Reader *r, const char *file, bool required) {
        _cleanup_close_ int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;
        FILE *stream;
        int line;

        if (fd < 0 || fstat(fd, &st) < 0) {
                int error = errno;

                if (error == ENOENT && !required)
                        return 0;
                (void)snprintf(r->reason, sizeof(r->reason), "%s", strerrordesc_np(error));
                return -error;
        }
        if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)) /* a link to /dev/null masks */
                return 0;
        if (!S_ISREG(st.st_mode) || st.st_uid != 0 || (st.st_mode & 022)) {
                (void)snprintf(r->reason, sizeof(r->reason),
                               "must be a regular file that root alone can write (chown root, "
                               "chmod go-w)");
                return -EPERM;
        }
        stream = fdopen(fd, "re");
        if (!stream)
                return -ENOMEM;
        (void)TAKE_FD(fd);
        r->reason[0] = '\0';
        r->stream = stream;
        r->line = 0;
        r->file = file;
        line = ini_parse_stream(read_line, r, on_line, r);
        (void)fclose(stream);
        if (r->reason[0] && (line <= 0 || r->reason_line < line))
                line = r->reason_line;
        if (line == 0)
                return 0;
        if (!r->reason[0] || r->reason_line != line)
                (void)snprintf(r->reason, sizeof(r->reason), "%s",
                               line > 0 ? "not a line of the form 'key = value'" : "out of memory");
        return line > 0 ? line : -ENOMEM;
}

static int is_dropin(const struct dirent *entry) {
        size_t n = strlen(entry->d_name);

        return entry->d_name[0] != '.' && n > 5 && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

/* Reads one file; a mistake becomes "FILE:LINE: reason". */
static int read_named(Reader *r, const char *file, bool required, char **ret_reason) {
        int k = read_file(r, file, required);

        if (k == 0)
                return 0;
        if (k > 0 ? asprintf(ret_reason, "%s:%d: %s", file, k, r->reason) < 0
                  : asprintf(ret_reason, "%s: %s", file, r->reason) < 0)
                *ret_reason = NULL;
        return k > 0 ? -EINVAL : k;
}

/* The drop-ins of both directories in name order; one in directories[0] masks its namesake in
 * directories[1]. */
static int read_dropins(Reader *r, const char *const directories[static 2], char **ret_reason) {
        struct dirent **entries[2] = {NULL, NULL};
        int counts[2], at[2] = {0, 0}, k = 0;

        for (int d = 0; d < 2; d++) {
                counts[d] = directories[d]
                                    ? scandir(directories[d], &entries[d], is_dropin, alphasort)
                                    : 0;
                if (counts[d] < 0 && errno != ENOENT) {
                        k = -errno;
                        if (asprintf(ret_reason, "%s: %s", directories[d], strerrordesc_np(-k)) < 0)
                                *ret_reason = NULL;
                }
                if (counts[d] < 0)
                        counts[d] = 0;
        }
        while (k == 0 && (at[0] < counts[0] || at[1] < counts[1])) {
                int order = at[0] >= counts[0] ? 1
                            : at[1] >= counts[1]
                                    ? -1
                                    : strcmp(entries[0][at[0]]->d_name, entries[1][at[1]]->d_name);
                int from = order <= 0 ? 0 : 1;
                _cleanup_free_ char *file = NULL;

                if (asprintf(&file, "%s/%s", directories[from], entries[from][at[from]]->d_name) < 0) {
                        file = NULL;
                        k = -ENOMEM;
                        break;
                }
                k = read_named(r, file, true, ret_reason);
                at[from]++;
                if (order == 0)
                        at[1]++;
        }
        for (int d = 0; d < 2; d++) {
                for (int i = 0; i < counts[d]; i++)
                        free(entries[d][i]);
                free(entries[d]);
        }
        return k;
}

static int finish(Reader *r, char **ret_reason) {
        Config *c = r->config;
        char address[INET6_ADDRSTRLEN];

        if (c->cidr > (c->bridge_family == AF_INET ? 32 : 128)) {
                if (asprintf(ret_reason, "%scidr = %u: an IPv4 prefix has at most 32 bits",
                             r->cidr_at, c->cidr) < 0)
                        *ret_reason = NULL;
                return -EINVAL;
        }
        (void)inet_ntop(c->bridge_family, &c->bridge_ip, address, sizeof(address));
        (void)snprintf(c->bridge_address, sizeof(c->bridge_address), "%s/%u", address, c->cidr);
        return 0;
}

int config_load(const char *file, Config **ret, char **ret_reason) {
        Reader r = {.config = calloc(1, sizeof(Config))};
        _cleanup_free_ char *own_dropins = NULL;
        int k = r.config ? 0 : -ENOMEM;

        *ret_reason = NULL;
        for (size_t i = 0; k == 0 && i < ELEMENTS(keys); i++)
                k = keys[i].set(&r, (char *)r.config + keys[i].offset, keys[i].key,
                                keys[i].by_default);
        if (k == 0)
                k = read_named(&r, file ?: "/etc/banger/fcproc.conf", file != NULL, ret_reason);
        if (k == 0 && file && asprintf(&own_dropins, "%s.d", file) < 0) {
                own_dropins = NULL;
                k = -ENOMEM;
        }
        if (k == 0)
                k = read_dropins(&r,
                                 file ? (const char *[2]){own_dropins, NULL}
                                      : (const char *[2]){"/etc/banger/fcproc.conf.d",
                                                          "/usr/lib/banger/fcproc.conf.d"},
                                 ret_reason);
        if (k == 0)
                k = finish(&r, ret_reason);
        if (k < 0) {
                if (!*ret_reason)
                        *ret_reason = strdup(strerrordesc_np(-k));
                config_free(r.config);
                return k;
        }
        *ret = r.config;
        return 0;
}

void config_free(Config *config) {
        if (!config)
                return;
        free(config->firecracker_bin);
        free(config->runtime_dir);
        strv_free(config->socket_roots);
        strv_free(config->tap_prefixes);
        free(config);
}
