/* SPDX-License-Identifier: MIT */
/* Methods on the runtime directory, the VMM's program and its API socket. */

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/config.h"
#include "bus/authorize.h"
#include "bus/call.h"
#include "bus/errors.h"
#include "bus/options.h"
#include "common/cleanup.h"
#include "common/failure.h"
#include "common/validate.h"
#include "methods/methods.h"
#include "methods/socket-wait.h"
#include "watch/target.h"

int method_ensure_socket_dir(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        _cleanup_free_ char *path = NULL;
        Service *s = userdata;
        Failure f;
        int r;

        if (options_read(m, NULL, 0, &f) < 0)
                return errors_reply(m, &f);
        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        call_set_object(call, "%s/%u", s->config->runtime_dir, call->user->uid);
        r = call_authorize(call, ACTION_ENSURE_SOCKET_DIR, &(Details){});
        if (r != 0)
                return r;
        if (socket_dir_ensure(s->config, call->user->uid, &path, &call->changed, &f) < 0)
                return call_fail_with(call, &f);
        return call_reply(call, "s", path);
}

/* --- ResolveBinary --- */

static bool is_program(const char *path) {
        struct stat st;

        return stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111);
}

static int resolve_binary(const Config *c, char **ret, Failure *f) {
        const char *path = getenv("PATH")
                                   ?: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

        if (!*c->firecracker_bin)
                return failure_set(f, FAILURE_BINARY_NOT_CONFIGURED,
                                   "firecracker_bin is set to nothing; set it in fcproc.conf to a path, or to a name "
                                   "in PATH");
        if (c->firecracker_bin[0] == '/') {
                if (!is_program(c->firecracker_bin))
                        return failure_set(f, FAILURE_BINARY_NOT_FOUND,
                                           "There is no program at %s; install Firecracker there, or set firecracker_bin "
                                           "in fcproc.conf",
                                           c->firecracker_bin);
                *ret = strdup(c->firecracker_bin);
                return *ret ? 0 : failure_oom(f);
        }
        for (const char *p = path; *p; p += strcspn(p, ":"), p += *p == ':') {
                int n = (int)strcspn(p, ":");

                if (*p != '/')
                        continue;
                if (asprintf(ret, "%.*s/%s", n, p, c->firecracker_bin) < 0)
                        return failure_oom(f);
                if (is_program(*ret))
                        return 0;
                free(*ret);
        }
        return failure_set(f, FAILURE_BINARY_NOT_FOUND,
                           "There is no program %s in the service's PATH (%s); install Firecracker there, or set "
                           "firecracker_bin in fcproc.conf to its path",
                           c->firecracker_bin, path);
}

int method_resolve_binary(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        _cleanup_free_ char *path = NULL;
        Service *s = userdata;
        Failure f;
        int r;

        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        r = call_authorize(call, ACTION_INSPECT, &(Details){});
        if (r != 0)
                return r;
        if (resolve_binary(s->config, &path, &f) < 0) {
                path = NULL;
                return call_fail_with(call, &f);
        }
        return call_reply(call, "s", path);
}

/* --- EnsureSocketAccess --- */

int method_ensure_socket_access(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        _cleanup_target_ Target t = TARGET_NONE;
        Service *s = userdata;
        uint64_t timeout_usec = s->config->socket_timeout_usec;
        const Option options[] = {{"timeout-usec", 't', &timeout_usec, NULL}};
        const char *path, *label;
        Failure f;
        int r;

        r = sd_bus_message_read(m, "ss", &path, &label);
        if (r < 0)
                return r;
        if (socket_path_check(path, &f) < 0 || label_check(label, &f) < 0 ||
            options_read(m, options, ELEMENTS(options), &f) < 0)
                return errors_reply(m, &f);
        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        call_set_object(call, "%s", path);

        if (target_find(call, path, &t, &f) < 0)
                return call_fail_with(call, &f);
        r = target_authorize_path(call, ACTION_ENSURE_SOCKET_ACCESS, path, &t);
        if (r != 0)
                return r;
        if (t.socket.refusal.kind)
                return call_fail_with(call, &t.socket.refusal);
        if (t.socket.state != SOCKET_LISTENING && t.socket.state != SOCKET_BACKLOG_FULL)
                return call_wait_for_socket(call, path, label, &t, timeout_usec);
        if (socket_give(&t.socket, path,
                        t.socket.in_runtime_dir ? t.socket.directory_uid : call->user->uid,
                        &call->changed, &f) < 0)
                return call_fail_with(call, &f);
        return call_reply(call, NULL);
}

/* --- SendCtrlAltDel --- */

static void on_ctrl_alt_del(const VmmAnswer *answer, void *userdata) {
        Call *call = userdata;
        Failure f;

        call->vmm = NULL;
        if (answer->kind == VMM_DONE) {
                call->changed = true;
                (void)call_reply(call, NULL);
        } else {
                (void)vmm_failure(answer, call->object, &f);
                (void)call_fail_with(call, &f);
        }
}

int method_send_ctrl_alt_del(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        _cleanup_target_ Target t = TARGET_NONE;
        Service *s = userdata;
        uint64_t timeout_usec = s->config->socket_timeout_usec;
        const Option options[] = {{"timeout-usec", 't', &timeout_usec, NULL}};
        const char *path;
        Failure f;
        int r;

        r = sd_bus_message_read(m, "s", &path);
        if (r < 0)
                return r;
        if (socket_path_check(path, &f) < 0 || options_read(m, options, ELEMENTS(options), &f) < 0)
                return errors_reply(m, &f);
        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        call_set_object(call, "%s", path);

        if (target_find(call, path, &t, &f) < 0)
                return call_fail_with(call, &f);
        r = target_authorize_path(call, ACTION_SEND_CTRL_ALT_DEL, path, &t);
        if (r != 0)
                return r;
        if (t.socket.refusal.kind)
                return call_fail_with(call, &t.socket.refusal);
        if (t.socket.state == SOCKET_BACKLOG_FULL)
                return call_fail(call, FAILURE_VMM_UNREACHABLE,
                                 "The VMM behind %s accepts no connection (its backlog is full); try again",
                                 path);
        if (t.socket.state != SOCKET_LISTENING)
                return call_wait_for_socket(call, path, "Ctrl-Alt-Del", &t, timeout_usec);
        call_stop_waiting_for_socket(call);
        if (vmm_send_ctrl_alt_del(s->http, t.socket.fd, t.process, on_ctrl_alt_del, call,
                                  &call->vmm) < 0)
                return call_fail_oom(call);
        return call_park(call);
}
