/* SPDX-License-Identifier: MIT */
#pragma once

/* One HTTP request over a pinned Unix socket, to one process and no other, on libcurl's multi
 * interface and sd-event. The server is somebody's own program and may be anything: it gets 2 s
 * in all, 8 KiB of headers and 4 KiB of body. */

#include <stddef.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/worker.h"

typedef struct Http Http;
typedef struct HttpRequest HttpRequest;

typedef enum HttpOutcome {
        HTTP_ANSWERED,
        HTTP_HUNG_UP,    /* connected, and closed before an answer: busy, or no HTTP server */
        HTTP_NOT_THERE,  /* nobody to connect to, or the backlog is full */
        HTTP_WRONG_PEER, /* another process listens: it was sent nothing */
        HTTP_TIMED_OUT,
        HTTP_INVALID, /* an answer that is no HTTP/1 answer, or too long */
} HttpOutcome;

typedef struct HttpAnswer {
        HttpOutcome outcome;
        long status;
        const char *body; /* NUL-terminated, may be empty */
        size_t size;
} HttpAnswer;

/* Called once, from the event loop; the request is gone after it. */
typedef void (*HttpFunction)(const HttpAnswer *answer, void *userdata);

/* worker: where libcurl is loaded, at the first request. */
int http_new(sd_event *event, Worker *worker, Http **ret);
void http_free(Http *http);

/* socket_fd: O_PATH, stays the caller's and must stay open until function is called; path and body are
 * constants. body NULL: GET. The peer must be process pid, whose pidfd says that it lives. */
int http_request(Http *http, int socket_fd, pid_t pid, int pidfd, const char *path,
                 const char *body, HttpFunction function, void *userdata, HttpRequest **ret);
/* Forgets a request without a call of its function. */
void http_cancel(HttpRequest *request);
