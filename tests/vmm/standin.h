/* SPDX-License-Identifier: MIT */
/* What the three parts of the stand-in for Firecracker share: growing buffers, a reader for the few JSON bodies (its faults are
 * worded and placed as serde_json's, because tests compare whole answers), the HTTP parser, and the imitated microVM. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FIRECRACKER_VERSION "1.16.1"
#define USEC_INFINITY UINT64_MAX

uint64_t now_usec(void);

/* Bytes on their way out. Memory that cannot be had ends the stand-in: it is a test program. */
typedef struct Buffer {
        char *data;
        size_t size, allocated;
} Buffer;

void buffer_append(Buffer *b, const void *data, size_t size);
void buffer_printf(Buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_json_string(Buffer *b, const char *s);
void buffer_free(Buffer *b);

/* JSON */
typedef struct Json {
        const char *text;
        size_t size;
        size_t position;
        char error[1024];
} Json;

typedef struct JsonField {
        const char *name;
        bool (*read)(Json *j, void *into); /* NULL: whatever it is, it is skipped */
        void *into;
        bool required;
        bool seen;
} JsonField;

#define JSON_STRING_MAX 4096u

bool json_read_string(Json *j, void *into);          /* char[JSON_STRING_MAX] */
bool json_read_optional_string(Json *j, void *into); /* the same, null leaves it alone */
bool json_read_bool(Json *j, void *into);            /* bool */
bool json_read_u8(Json *j, void *into);              /* uint64_t */
bool json_read_usize(Json *j, void *into);           /* uint64_t */
bool json_read_variant(Json *j, const char *const *variants, size_t *index);
bool json_read_object(Json *j, const char *what, JsonField *fields, size_t n_fields, bool others_too);
bool json_read_array(Json *j, bool (*read)(Json *j, void *into), void *into);
bool json_end(Json *j);

/* HTTP, one request at a time, with the limits of Firecracker's own parser */
typedef struct Request {
        char method[8];
        char target[1024];
        uint32_t length;
        bool expect;
        char *body;
        size_t body_size;
} Request;

typedef struct Http {
        char in[1024];
        size_t used; /* bytes of an unfinished line that stay for the next read */
        enum {
                HTTP_REQUEST_LINE,
                HTTP_HEADERS,
                HTTP_BODY
        } phase;
        Request pending;
        Request *ready; /* complete, not answered yet */
        size_t n_ready;
} Http;

void http_received(Http *h, size_t n_new, Buffer *out);
void http_drop_ready(Http *h);
void http_free(Http *h);
void http_answer(Buffer *out, unsigned status, const char *body);
void http_fault(Buffer *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The imitated microVM */
typedef enum VmState {
        VM_NOT_STARTED,
        VM_RUNNING,
        VM_PAUSED
} VmState;

#define VM_TAPS_MAX 32u

typedef struct Vm {
        const char *id;
        const char *refuse;        /* every action is refused with this text */
        bool ignores_ctrl_alt_del; /* a guest without a driver for the keyboard controller */
        uint64_t guest_delay_usec; /* from the keys to the reset */

        VmState state;
        bool has_boot_source;
        uint64_t vcpu_count, mem_size_mib;
        bool smt, track_dirty_pages;
        char huge_pages[JSON_STRING_MAX];
        unsigned unread_keys; /* Ctrl-Alt-Dels in the keyboard controller's queue */
        uint64_t reset_usec;  /* when the guest resets */

        struct {
                char id[JSON_STRING_MAX];
                int fd;
        } taps[VM_TAPS_MAX];
        size_t n_taps;

        char fault[8192]; /* why the last thing was not done */
} Vm;

void vm_init(Vm *vm);
void vm_request(Vm *vm, const Request *request, Buffer *out);
bool vm_configure(Vm *vm, const char *text, size_t size); /* --config-file's content; then it runs */
