/* SPDX-License-Identifier: MIT */
/* Firecracker's configuration file, as docs/getting-started.md of Firecracker 1.16 shows it:
 * {"network-interfaces": [{"host_dev_name", "guest_mac", …}], "vsock": {"uds_path", …}, …}.
 *
 * It is read once here and once by Firecracker. Both do so as the same user, so a file that is
 * changed in between can only mislead its own owner. */

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/stat.h>

#include "common/validate.h"
#include "i18n.h"
#include "report.h"
#include "vm-config.h"

#define FILE_MAX (1024 * 1024)
#define BAD_CONTENT "org.freedesktop.DBus.Error.InvalidFileContent"

static int refuse(const Ctl *ctl, const char *path, const char *why) {
        return report_failure(ctl, CODE_FAILED, BAD_CONTENT, "%s: %s", path, why);
}

static int cannot_read(const Ctl *ctl, const char *path, int error) {
        return report_failure(ctl, CODE_FAILED, SD_BUS_ERROR_FILE_NOT_FOUND,
                              _("Cannot read the configuration file %s: %s"), path, strerror(error));
}

/* Firecracker opens it again, so it has to be a file and not, say, a pipe. A 0 follows what is read. */
static int file_read(const Ctl *ctl, const char *path, char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        struct stat st;
        ssize_t n;

        if (fd < 0 || fstat(fd, &st) < 0)
                return cannot_read(ctl, path, errno);
        if (!S_ISREG(st.st_mode))
                return refuse(ctl, path, _("it is no regular file; Firecracker has to read it too"));
        if (st.st_size > FILE_MAX)
                return refuse(ctl, path, _("it is larger than 1 MiB; is it a configuration file?"));
        text = malloc(FILE_MAX + 1);
        if (!text)
                abort();
        while (size <= FILE_MAX && (n = read(fd, text + size, FILE_MAX + 1 - size)) != 0) {
                if (n < 0)
                        return cannot_read(ctl, path, errno);
                size += (size_t)n;
        }
        *ret_size = MIN_OF(size, FILE_MAX);
        text[*ret_size] = 0;
        *ret = TAKE_PTR(text);
        return CODE_DONE;
}

static int file_parse(const Ctl *ctl, const char *path, const char *text, size_t size,
                      json_object **ret) {
        json_tokener *t = json_tokener_new();
        int code = CODE_DONE;

        if (!t)
                abort();
        json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
        /* with the byte behind it, which ends it */
        *ret = json_tokener_parse_ex(t, text, (int)size + 1);
        if (memchr(text, 0, size))
                code = refuse(ctl, path, _("it is no text"));
        else if (json_tokener_get_error(t) == json_tokener_continue)
                code = refuse(ctl, path, _("it is no valid JSON: it ends too soon"));
        else if (json_tokener_get_error(t) != json_tokener_success)
                code = report_failure(ctl, CODE_FAILED, BAD_CONTENT,
                                      _("%s: it is no valid JSON from byte %zu on"), path,
                                      json_tokener_get_parse_end(t) + 1);
        else if (!json_object_is_type(*ret, json_type_object))
                code = refuse(ctl, path, _("it is no configuration: the whole has to be an object"));
        json_tokener_free(t);
        return code;
}

/* A copy of a member that is a string, NULL where it is anything else. */
static char *string_copy(json_object *o, const char *key) {
        json_object *v = json_object_object_get(o, key);
        char *s;

        if (!json_object_is_type(v, json_type_string) ||
            strlen(json_object_get_string(v)) != (size_t)json_object_get_string_len(v))
                return NULL;
        s = strdup(json_object_get_string(v));
        if (!s)
                abort();
        return s;
}

static int taps_take(const Ctl *ctl, const char *path, json_object *list, VmConfig *config) {
        size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

        config->taps = calloc(n + 1, sizeof(*config->taps));
        if (!config->taps)
                abort();
        for (size_t i = 0; i < n; i++) {
                json_object *o = json_object_array_get_idx(list, i);
                VmTap *tap = &config->taps[config->n_taps];

                if (!json_object_is_type(o, json_type_object))
                        continue; /* Firecracker says better what it misses */
                tap->name = string_copy(o, "host_dev_name");
                if (!tap->name)
                        continue;
                tap->guest_mac = string_copy(o, "guest_mac");
                config->n_taps++;
                if (!link_name_valid(tap->name))
                        return report_usage(ctl,
                                            _("%s: '%.40s' is no name for a tap: use 1 to %d of a-z 0-9 . _ -, "
                                              "starting with a letter or digit and not all digits"),
                                            path, tap->name, TAP_NAME_MAX);
                for (size_t k = 0; k + 1 < config->n_taps; k++)
                        if (strcmp(config->taps[k].name, tap->name) == 0)
                                return report_usage(
                                        ctl,
                                        _("%s: two interfaces have the tap '%s'; give each its own"),
                                        path, tap->name);
        }
        return CODE_DONE;
}

int vm_config_read(const Ctl *ctl, const char *path, VmConfig *ret) {
        _cleanup_free_ char *text = NULL;
        json_object *whole = NULL, *vsock;
        size_t size = 0;
        int code;

        *ret = (VmConfig){};
        code = file_read(ctl, path, &text, &size);
        if (code == CODE_DONE)
                code = file_parse(ctl, path, text, size, &whole);
        if (code == CODE_DONE)
                code = taps_take(ctl, path, json_object_object_get(whole, "network-interfaces"), ret);
        if (code == CODE_DONE) {
                vsock = json_object_object_get(whole, "vsock");
                if (json_object_is_type(vsock, json_type_object))
                        ret->vsock = string_copy(vsock, "uds_path");
        }
        (void)json_object_put(whole);
        return code;
}

void vm_config_done(VmConfig *config) {
        for (size_t i = 0; i < config->n_taps; i++) {
                free(config->taps[i].name);
                free(config->taps[i].guest_mac);
        }
        free(config->taps);
        free(config->vsock);
        *config = (VmConfig){};
}
