/* SPDX-License-Identifier: MIT */
/* Firecracker's API, as far as it is needed. A fault is {"fault_message": "…"}; an error of the
 * HTTP layer is no valid JSON (it has a raw newline in a string), so what cannot be parsed is no
 * fault but no answer. */

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "vm/vmm.h"

#define CTRL_ALT_DEL "{\"action_type\":\"SendCtrlAltDel\"}"
#define TOO_MANY "Too many open connections"
#define QUEUE_FULL "i8042 internal buffer full"

struct VmmRequest {
        HttpRequest *http;
        Process *process;
        int socket_fd;
        bool describes;
        VmmFunction function;
        void *userdata;
};

static void request_free(VmmRequest *r) {
        (void)close_fd(r->socket_fd);
        process_unref(r->process);
        free(r);
}

static json_object *parse_object(const char *text, size_t size) {
        json_tokener *tokener = json_tokener_new_ex(8);
        json_object *object;

        if (!tokener)
                return NULL;
        object = json_tokener_parse_ex(tokener, text, (int)size);
        json_tokener_free(tokener);
        if (object && !json_object_is_type(object, json_type_object)) {
                json_object_put(object);
                return NULL;
        }
        return object;
}

static const char *string_in(json_object *object, const char *key) {
        json_object *value;

        return object && json_object_object_get_ex(object, key, &value) &&
                               json_object_is_type(value, json_type_string)
                       ? json_object_get_string(value)
                       : NULL;
}

static VmmState state_of(const char *text) {
        return !text                              ? VMM_STATE_UNKNOWN
               : strcmp(text, "Not started") == 0 ? VMM_NOT_STARTED
               : strcmp(text, "Running") == 0     ? VMM_RUNNING
               : strcmp(text, "Paused") == 0      ? VMM_PAUSED
                                                  : VMM_STATE_UNKNOWN;
}

static void set_text(VmmAnswer *answer, VmmAnswerKind kind, const char *text) {
        answer->kind = kind;
        text_make_valid(text, answer->text, sizeof(answer->text));
}

static void read_answer(const VmmRequest *r, const HttpAnswer *http, VmmAnswer *ret) {
        json_object *object = parse_object(http->body, http->size);
        const char *fault = string_in(object, "fault_message"), *state = string_in(object, "state");

        if (http->status >= 200 && http->status < 300) {
                ret->kind = VMM_DONE;
                ret->state = state_of(state);
                if (r->describes && (!state || !string_in(object, "id")))
                        set_text(ret, VMM_UNREACHABLE, "its answer describes no microVM");
                ret->is_other = ret->kind != VMM_DONE;
        } else if (fault) {
                set_text(ret, VMM_REFUSED, fault);
                ret->queue_full = strstr(fault, QUEUE_FULL) != NULL;
        } else {
                (void)snprintf(ret->text, sizeof(ret->text),
                               http->status == 503
                                       ? "it is busy (HTTP status %ld): its ten API connections "
                                         "are taken"
                                       : "it answered HTTP status %ld and no fault",
                               http->status);
                ret->kind = http->status == 503 ? VMM_BUSY : VMM_UNREACHABLE;
                ret->api_server = http->status == 503 && strstr(http->body, TOO_MANY);
                ret->is_other = http->status != 503;
        }
        json_object_put(object);
}

static void on_http(const HttpAnswer *http, void *userdata) {
        VmmRequest *r = userdata;
        VmmAnswer answer = {};

        switch (http->outcome) {
        case HTTP_ANSWERED:
                read_answer(r, http, &answer);
                break;
        case HTTP_HUNG_UP:
                set_text(&answer, VMM_BUSY,
                         "it is busy: it hung up at once, as Firecracker does when its ten API connections are taken");
                break;
        case HTTP_NOT_THERE:
                set_text(&answer, VMM_UNREACHABLE, "nobody accepts a connection");
                break;
        case HTTP_WRONG_PEER:
                set_text(&answer, VMM_UNREACHABLE,
                         "another process has taken over the socket; it was sent nothing");
                answer.is_other = true;
                break;
        case HTTP_TIMED_OUT:
                set_text(&answer, VMM_UNREACHABLE, "it did not answer within 2 s");
                break;
        case HTTP_INVALID:
                set_text(&answer, VMM_UNREACHABLE, "what it answered is no answer of an API server");
                answer.is_other = true;
                break;
        }
        r->http = NULL; /* http.c frees it after this */
        r->function(&answer, r->userdata);
        request_free(r);
}

static int request(Http *http, int socket_fd, Process *process, const char *path, const char *body,
                   VmmFunction function, void *userdata, VmmRequest **ret) {
        VmmRequest *r = calloc(1, sizeof(*r));
        int k;

        if (!r)
                return -ENOMEM;
        *r = (VmmRequest){.process = process_ref(process),
                          .socket_fd = fcntl(socket_fd, F_DUPFD_CLOEXEC, 3),
                          .describes = !body,
                          .function = function,
                          .userdata = userdata};
        k = r->socket_fd < 0 ? -errno
                             : http_request(http, r->socket_fd, process->pid, process->pidfd, path,
                                            body, on_http, r, &r->http);
        if (k < 0) {
                request_free(r);
                return k;
        }
        *ret = r;
        return 0;
}

int vmm_describe(Http *http, int socket_fd, Process *process, VmmFunction function, void *userdata,
                 VmmRequest **ret) {
        return request(http, socket_fd, process, "/", NULL, function, userdata, ret);
}

int vmm_send_ctrl_alt_del(Http *http, int socket_fd, Process *process, VmmFunction function,
                          void *userdata, VmmRequest **ret) {
        return request(http, socket_fd, process, "/actions", CTRL_ALT_DEL, function, userdata, ret);
}

void vmm_request_cancel(VmmRequest *r) {
        if (!r)
                return;
        http_cancel(r->http);
        request_free(r);
}

int vmm_failure(const VmmAnswer *answer, const char *path, Failure *f) {
        if (answer->kind == VMM_REFUSED)
                return failure_set(f, FAILURE_VMM_REFUSED, "The VMM behind %.200s refused: %s",
                                   path, answer->text);
        return failure_set(f, FAILURE_VMM_UNREACHABLE,
                           "The VMM behind %.200s gave no answer: %s; try again", path, answer->text);
}
