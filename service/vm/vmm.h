/* SPDX-License-Identifier: MIT */
#pragma once

/* What is said to a VMM over its API socket, and what its answers mean. Firecracker's own
 * answers: tests/vmm/answers-1.16.1.json; its source: src/firecracker/src/api_server. */

#include "common/failure.h"
#include "vm/http.h"
#include "vm/process.h"

typedef enum VmmAnswerKind {
        VMM_DONE,        /* 2xx */
        VMM_REFUSED,     /* a fault_message: see text */
        VMM_BUSY,        /* hung up at once: its ten API connections are taken */
        VMM_UNREACHABLE, /* no answer in time, or none that makes sense */
} VmmAnswerKind;

typedef enum VmmState {
        VMM_STATE_UNKNOWN,
        VMM_NOT_STARTED,
        VMM_RUNNING,
        VMM_PAUSED
} VmmState;

typedef struct VmmAnswer {
        VmmAnswerKind kind;
        VmmState state;  /* of vmm_describe() */
        char text[384];  /* the fault, or why there is no answer; printable */
        bool api_server; /* BUSY in Firecracker's own words: it is one, whatever it hides */
        bool is_other;   /* an answer that is no VMM's */
        bool queue_full; /* "i8042 internal buffer full": requests are pending */
} VmmAnswer;

typedef struct VmmRequest VmmRequest;
typedef void (*VmmFunction)(const VmmAnswer *answer, void *userdata);

/* GET /: DONE only for an instance description. PUT /actions SendCtrlAltDel. function is called
 * once, later; socket_fd (O_PATH) is duplicated, process referenced. Negative errno. */
int vmm_describe(Http *http, int socket_fd, Process *process, VmmFunction function, void *userdata,
                 VmmRequest **ret);
int vmm_send_ctrl_alt_del(Http *http, int socket_fd, Process *process, VmmFunction function,
                          void *userdata, VmmRequest **ret);
void vmm_request_cancel(VmmRequest *request);

/* An answer that is not DONE as a failure: VMM_REFUSED or VMM_UNREACHABLE. */
int vmm_failure(const VmmAnswer *answer, const char *path, Failure *f);
