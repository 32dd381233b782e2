/* SPDX-License-Identifier: MIT */
/* libcurl driven by the event loop. What a hostile server may try is named beside the option that
 * stops it; field facts are of libcurl 7.88 (Debian 12). */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/kernel.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/worker.h"
#include "common/cleanup.h"
#include "vm/curl-library.h"
#include "vm/http.h"
#include "vm/process.h"

#define CONNECT_TIMEOUT_MSEC 500L
#define TOTAL_TIMEOUT_MSEC 2000L
#define HEADERS_MAX 8192
#define BODY_MAX 4096

static CurlLibrary curl;

struct HttpRequest {
        Http *http;
        CURL *easy; /* NULL until libcurl is loaded */
        int socket_fd;
        const char *path, *body_to_send; /* constants */
        struct curl_slist *headers;
        HttpFunction function;
        void *userdata;
        pid_t pid;
        int pidfd;
        int socket; /* a duplicate of curl's, so that the peer can be asked for after curl closed its own */
        bool wrong_peer, too_long;
        size_t header_bytes, size;
        char body[BODY_MAX + 1];
        LIST_ENTRY(HttpRequest) in_list;
};

/* The library is loaded on a worker; requests that come before are kept. */
typedef struct LoadJob {
        Job job; /* first */
        Http *http;
        CurlLibrary library;
        const char *error;
} LoadJob;

struct Http {
        sd_event *event;
        Worker *worker;
        LoadJob load;
        bool loading;
        CURLM *multi; /* NULL until it is loaded */
        sd_event_source *timer;
        LIST_HEAD(, HttpRequest) requests;
};

static void request_free(HttpRequest *r) {
        LIST_REMOVE(r, in_list);
        if (r->easy) {
                (void)curl.multi_remove_handle(r->http->multi, r->easy);
                curl.easy_cleanup(r->easy);
        }
        if (r->headers)
                curl.slist_free_all(r->headers);
        (void)close_fd(r->socket);
        free(r);
}

static bool has_peer(const HttpRequest *r) {
        struct ucred peer;

        return r->socket >= 0 && kernel.peer_credentials(r->socket, &peer) >= 0 && peer.pid > 0;
}

static HttpOutcome outcome_of(const HttpRequest *r, CURLcode code, long status) {
        if (r->wrong_peer)
                return HTTP_WRONG_PEER;
        if (r->too_long)
                return HTTP_INVALID;
        switch (code) {
        case CURLE_OK:
                return status >= 200 ? HTTP_ANSWERED : HTTP_INVALID;
        case CURLE_OPERATION_TIMEDOUT:
                return HTTP_TIMED_OUT;
        case CURLE_COULDNT_CONNECT:
                /* also what curl says when the server hangs up before it was sent anything: a VMM whose
                 * connections are all taken */
                return has_peer(r) ? HTTP_HUNG_UP : HTTP_NOT_THERE;
        case CURLE_GOT_NOTHING:
        case CURLE_SEND_ERROR:
        case CURLE_RECV_ERROR:
                return HTTP_HUNG_UP;
        default:
                return HTTP_INVALID;
        }
}

/* What a server said before it hung up may lie unread: curl gives up on the hang-up alone. */
static void read_last_words(HttpRequest *r, HttpAnswer *answer) {
        char text[512], *body;
        ssize_t n = recv(r->socket, text, sizeof(text) - 1, MSG_DONTWAIT);
        long status;

        if (n <= 0)
                return;
        text[n] = '\0';
        body = strstr(text, "\r\n\r\n");
        if (!body || sscanf(text, "HTTP/1.1 %3ld", &status) != 1)
                return;
        answer->outcome = HTTP_ANSWERED;
        answer->status = status;
        r->size = strlen(body + 4);
        memcpy(r->body, body + 4, r->size);
}

static void reap_finished(Http *http) {
        CURLMsg *message;
        int left;

        while ((message = curl.multi_info_read(http->multi, &left))) {
                HttpAnswer answer = {};
                HttpRequest *r;
                char *private;

                if (message->msg != CURLMSG_DONE ||
                    curl.easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private) != CURLE_OK)
                        continue;
                r = (HttpRequest *)private;
                (void)curl.easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &answer.status);
                answer.outcome = outcome_of(r, message->data.result, answer.status);
                if (answer.outcome == HTTP_HUNG_UP && r->size == 0)
                        read_last_words(r, &answer);
                r->body[r->size] = '\0';
                answer.body = r->body;
                answer.size = r->size;
                r->function(&answer, r->userdata);
                request_free(r);
        }
}

static int on_socket_ready(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Http *http = userdata;
        int running, events = 0;

        if (revents & (EPOLLIN | EPOLLHUP))
                events |= CURL_CSELECT_IN;
        if (revents & EPOLLOUT)
                events |= CURL_CSELECT_OUT;
        if (revents & EPOLLERR)
                events |= CURL_CSELECT_ERR;
        (void)curl.multi_socket_action(http->multi, fd, events, &running);
        reap_finished(http);
        return 0;
}

static int on_socket_changed(CURL *easy, curl_socket_t fd, int what, void *userdata,
                             void *socket_data) {
        sd_event_source *source = socket_data;
        Http *http = userdata;
        uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0U) |
                          (what & CURL_POLL_OUT ? EPOLLOUT : 0U);

        if (what == CURL_POLL_REMOVE) {
                (void)curl.multi_assign(http->multi, fd, NULL);
                sd_event_source_disable_unref(source);
                return 0;
        }
        if (source)
                return sd_event_source_set_io_events(source, events) < 0 ? -1 : 0;
        if (sd_event_add_io(http->event, &source, fd, events, on_socket_ready, http) < 0)
                return -1;
        (void)curl.multi_assign(http->multi, fd, source);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Http *http = userdata;
        int running;

        (void)curl.multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        reap_finished(http);
        return 0;
}

static int on_timer_changed(CURLM *multi, long msec, void *userdata) {
        Http *http = userdata;

        if (msec < 0)
                return sd_event_source_set_enabled(http->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
        return loop_set_timer(http->timer, (uint64_t)msec * USEC_PER_MSEC) < 0 ? -1 : 0;
}

/* Our own socket(2), so that the peer can be asked for before a byte is sent. */
static curl_socket_t open_socket(void *userdata, curlsocktype purpose, struct curl_sockaddr *address) {
        HttpRequest *r = userdata;
        int fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                        address->protocol);

        (void)close_fd(r->socket);
        r->socket = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (r->socket < 0)
                return close_fd(fd); /* CURL_SOCKET_BAD */
        return fd;
}

/* CURLOPT_PREREQFUNCTION: connected, nothing sent yet. */
static int before_request(void *userdata, char *ip, char *local_ip, int port, int local_port) {
        HttpRequest *r = userdata;
        struct ucred peer;

        if (kernel.peer_credentials(r->socket, &peer) < 0 || peer.pid != r->pid ||
            process_is_gone(r->pidfd)) {
                r->wrong_peer = true;
                return CURL_PREREQFUNC_ABORT;
        }
        return CURL_PREREQFUNC_OK;
}

static size_t on_header(char *data, size_t size, size_t n, void *userdata) {
        HttpRequest *r = userdata;

        r->header_bytes += size * n;
        if (r->header_bytes > HEADERS_MAX) { /* endless headers, endless 100-continue */
                r->too_long = true;
                return 0;
        }
        return size * n;
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata) {
        HttpRequest *r = userdata;
        size_t bytes = size * n;

        if (bytes > BODY_MAX - r->size) {
                r->too_long = true;
                return 0;
        }
        memcpy(r->body + r->size, data, bytes);
        r->size += bytes;
        return bytes;
}

#define SET(option, value)                                    \
  do {                                                        \
    if (curl.easy_setopt(r->easy, option, value) != CURLE_OK) \
      return -ENOMEM;                                         \
  } while (0)

static int configure(HttpRequest *r) {
        const char *body = r->body_to_send;
        char socket_path[32], url[128];

        (void)snprintf(socket_path, sizeof(socket_path), "/proc/self/fd/%d", r->socket_fd);
        (void)snprintf(url, sizeof(url), "http://localhost%s", r->path);
        SET(CURLOPT_URL, url);
        SET(CURLOPT_UNIX_SOCKET_PATH, socket_path);
        SET(CURLOPT_PRIVATE, r);
        SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
        SET(CURLOPT_OPENSOCKETDATA, r);
        SET(CURLOPT_PREREQFUNCTION, before_request);
        SET(CURLOPT_PREREQDATA, r);
        SET(CURLOPT_HEADERFUNCTION, on_header);
        SET(CURLOPT_HEADERDATA, r);
        SET(CURLOPT_WRITEFUNCTION, on_body);
        SET(CURLOPT_WRITEDATA, r);
        SET(CURLOPT_PROTOCOLS_STR, "http"); /* no file://, whatever a server says */
        SET(CURLOPT_FOLLOWLOCATION, 0L);
        SET(CURLOPT_PROXY, ""); /* not the environment's http_proxy */
        SET(CURLOPT_NOPROXY, "*");
        SET(CURLOPT_NOSIGNAL, 1L);
        SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        SET(CURLOPT_HTTP09_ALLOWED, 0L);
        SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MSEC);
        SET(CURLOPT_TIMEOUT_MS, TOTAL_TIMEOUT_MSEC);
        /* a VMM has ten connections: one per request, closed at once */
        SET(CURLOPT_FRESH_CONNECT, 1L);
        SET(CURLOPT_FORBID_REUSE, 1L);
        SET(CURLOPT_MAXFILESIZE, (long)BODY_MAX);
        if (body) {
                SET(CURLOPT_CUSTOMREQUEST, "PUT");
                SET(CURLOPT_COPYPOSTFIELDS, body);
                r->headers = curl.slist_append(NULL, "Content-Type: application/json");
                if (!r->headers || !curl.slist_append(r->headers, "Expect:"))
                        return -ENOMEM;
                SET(CURLOPT_HTTPHEADER, r->headers);
        }
        return 0;
}

/* Hands the request to libcurl. Negative errno. */
static int request_start(HttpRequest *r) {
        int k;

        r->easy = curl.easy_init();
        k = r->easy ? configure(r) : -ENOMEM;
        if (k >= 0 && curl.multi_add_handle(r->http->multi, r->easy) != CURLM_OK)
                k = -ENOMEM;
        return k;
}

static int multi_start(Http *http) {
        http->multi = curl.multi_init();
        if (!http->multi)
                return -ENOMEM;
        if (curl.multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket_changed) != CURLM_OK ||
            curl.multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http) != CURLM_OK ||
            curl.multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer_changed) != CURLM_OK ||
            curl.multi_setopt(http->multi, CURLMOPT_TIMERDATA, http) != CURLM_OK)
                return -EINVAL;
        return 0;
}

static void load_run(Job *job, void *context) {
        LoadJob *l = (LoadJob *)job;

        l->error = curl_library_load(&l->library);
}

static void load_done(Job *job) {
        Http *http = ((LoadJob *)job)->http;
        HttpAnswer none = {.outcome = HTTP_NOT_THERE, .body = ""};
        LIST_HEAD(, HttpRequest) kept = LIST_HEAD_INITIALIZER(kept);
        HttpRequest *r;
        bool loaded = false;

        http->loading = false;
        if (http->load.error)
                log_message(LOG_ERR, "VMMs cannot be spoken to: %s", http->load.error);
        else {
                curl = http->load.library;
                loaded = multi_start(http) >= 0;
        }
        while ((r = LIST_FIRST(&http->requests))) { /* turns them round: the oldest first */
                LIST_REMOVE(r, in_list);
                LIST_INSERT_HEAD(&kept, r, in_list);
        }
        while ((r = LIST_FIRST(&kept))) {
                LIST_REMOVE(r, in_list);
                LIST_INSERT_HEAD(&http->requests, r, in_list);
                if (loaded && request_start(r) >= 0)
                        continue;
                r->function(&none, r->userdata);
                request_free(r);
        }
}

int http_request(Http *http, int socket_fd, pid_t pid, int pidfd, const char *path,
                 const char *body, HttpFunction function, void *userdata, HttpRequest **ret) {
        HttpRequest *r = calloc(1, sizeof(*r));
        int k;

        if (!r)
                return -ENOMEM;
        *r = (HttpRequest){.http = http,
                           .socket_fd = socket_fd,
                           .path = path,
                           .body_to_send = body,
                           .function = function,
                           .userdata = userdata,
                           .pid = pid,
                           .pidfd = pidfd,
                           .socket = -1};
        LIST_INSERT_HEAD(&http->requests, r, in_list);
        if (!http->multi) {
                if (!http->loading) {
                        http->loading = true;
                        http->load = (LoadJob){.job = {.run = load_run, .done = load_done},
                                               .http = http};
                        worker_submit(http->worker, &http->load.job);
                }
        } else {
                k = request_start(r);
                if (k < 0) {
                        request_free(r);
                        return k;
                }
        }
        *ret = r;
        return 0;
}

void http_cancel(HttpRequest *request) {
        if (request)
                request_free(request);
}

int http_new(sd_event *event, Worker *worker, Http **ret) {
        Http *http = calloc(1, sizeof(*http));
        int r;

        if (!http)
                return -ENOMEM;
        LIST_INIT(&http->requests);
        http->event = sd_event_ref(event);
        http->worker = worker;
        r = sd_event_add_time(event, &http->timer, CLOCK_MONOTONIC, 0, USEC_PER_MSEC, on_timer, http);
        if (r >= 0)
                r = sd_event_source_set_priority(http->timer, PRIORITY_OWED);
        if (r >= 0)
                r = sd_event_source_set_enabled(http->timer, SD_EVENT_OFF);
        if (r < 0) {
                http_free(http);
                return r;
        }
        *ret = http;
        return 0;
}

void http_free(Http *http) {
        if (!http)
                return;
        while (!LIST_EMPTY(&http->requests))
                request_free(LIST_FIRST(&http->requests));
        if (http->multi)
                (void)curl.multi_cleanup(http->multi);
        sd_event_source_disable_unref(http->timer);
        sd_event_unref(http->event);
        if (curl.global_cleanup)
                curl.global_cleanup();
        curl = (CurlLibrary){};
        free(http);
}
