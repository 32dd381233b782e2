/* SPDX-License-Identifier: MIT */
/* The imitated microVM and the HTTP in front of it. It owns the states (not started, running, paused), the queue of the keyboard
 * controller, the taps, and every answer, byte for byte as Firecracker 1.16.1 gave it. Not imitated: paths that FcProc does not
 * use (they are unknown paths here), anything about the kernel image but that it can be opened, and a second PUT's effect on a
 * drive. */

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "standin.h"

#define BODY_MAX 51200u
#define KEYS_MAX 4u /* of four bytes each: the queue of the keyboard controller holds 16 */

#define NOT_BEFORE_START "The requested operation is not supported before starting the microVM."
#define NOT_AFTER_START "The requested operation is not supported after starting the microVM."

void http_answer(Buffer *out, unsigned status, const char *body) {
        buffer_printf(out, "HTTP/1.1 %u \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n",
                      status);
        if (body)
                buffer_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                              strlen(body));
        buffer_printf(out, "\r\n%s", body ?: "");
}

void http_fault(Buffer *out, const char *format, ...) {
        Buffer body = {};
        va_list ap;
        char *s;

        va_start(ap, format);
        if (vasprintf(&s, format, ap) < 0)
                abort();
        va_end(ap);

        buffer_printf(&body, "{\"fault_message\":");
        buffer_json_string(&body, s);
        buffer_append(&body, "}", 2); /* with the NUL */
        http_answer(out, 400, body.data);
        buffer_free(&body);
        free(s);
}

/* What the parser itself refuses. Not valid JSON, because of the raw newline: so is the real one's. */
__attribute__((format(printf, 3, 4))) static void http_refuse(Http *h, Buffer *out,
                                                              const char *format, ...) {
        Buffer body = {};
        va_list ap;
        char *s;

        va_start(ap, format);
        if (vasprintf(&s, format, ap) < 0)
                abort();
        va_end(ap);

        http_drop_ready(h);
        buffer_printf(&body,
                      "{ \"error\": \"%s\nAll previous unanswered requests will be dropped.\" }", s);
        buffer_append(&body, "", 1);
        http_answer(out, 400, body.data);
        buffer_free(&body);
        free(s);
}

void http_drop_ready(Http *h) {
        for (size_t i = 0; i < h->n_ready; i++)
                free(h->ready[i].body);
        free(h->ready);
        h->ready = NULL;
        h->n_ready = 0;
}

void http_free(Http *h) {
        http_drop_ready(h);
        free(h->pending.body);
}

static bool parse_request_line(Http *h, Buffer *out, const char *line, size_t size) {
        static const char *const methods[] = {"GET", "PUT", "PATCH", "DELETE"};
        const char *target, *version;
        bool known = false;

        /* What a refused request left behind. */
        free(h->pending.body);
        h->pending = (Request){};
        target = memchr(line, ' ', size);
        version = target ? memchr(target + 1, ' ', size - (size_t)(target + 1 - line)) : NULL;
        if (!version) {
                http_refuse(h, out, "Invalid request.");
                return false;
        }
        target++;
        version++;

        for (size_t i = 0; i < 4; i++)
                if (strlen(methods[i]) == (size_t)(target - 1 - line) &&
                    memcmp(methods[i], line, strlen(methods[i])) == 0)
                        known = true;
        if (!known)
                http_refuse(h, out, "Invalid HTTP Method: Unsupported HTTP method.");
        else if (version - target == 1)
                http_refuse(h, out, "Invalid URI: Empty URI not allowed.");
        else if (line + size - version != 8 ||
                 (memcmp(version, "HTTP/1.0", 8) != 0 && memcmp(version, "HTTP/1.1", 8) != 0))
                http_refuse(h, out, "Invalid HTTP Version: Unsupported HTTP version.");
        else {
                memcpy(h->pending.method, line, (size_t)(target - 1 - line));
                memcpy(h->pending.target, target, (size_t)(version - 1 - target));
                return true;
        }
        return false;
}

/* Without the blanks around it, as much of it as is of interest: the names and values looked for are short. */
static void trim(char *s, size_t size, const char *from, size_t n) {
        while (n > 0 && strchr(" \t", *from)) {
                from++;
                n--;
        }
        while (n > 0 && strchr(" \t", from[n - 1]))
                n--;
        if (n >= size)
                n = size - 1;
        memcpy(s, from, n);
        s[n] = 0;
}

static bool parse_header(Http *h, Buffer *out, const char *line, size_t size) {
        const char *colon = memchr(line, ':', size);
        char name[32], value[32], *end;
        unsigned long long n;

        if (!colon) {
                http_refuse(h, out,
                            "Invalid header. Reason: Header is incorrectly formatted. Key: %.*s",
                            (int)size, line);
                return false;
        }
        trim(name, sizeof name, line, (size_t)(colon - line));
        trim(value, sizeof value, colon + 1, (size_t)(line + size - colon - 1));
        if (strcasecmp(name, "Expect") == 0 && strcmp(value, "100-continue") == 0)
                h->pending.expect = true;
        if (strcasecmp(name, "Content-Length") != 0)
                return true;

        n = strtoull(value, &end, 10);
        if (value[0] < '0' || value[0] > '9' || *end || n > UINT32_MAX) {
                http_refuse(h, out, "Invalid header. Reason: Invalid value. Key:%.*s; Value:%.*s",
                            (int)(colon - line), line, (int)(line + size - colon - 1), colon + 1);
                return false;
        }
        h->pending.length = (uint32_t)n;
        return true;
}

static void request_is_ready(Http *h) {
        Request *p = realloc(h->ready, (h->n_ready + 1) * sizeof *p);

        if (!p)
                abort();
        h->ready = p;
        h->ready[h->n_ready++] = h->pending;
        h->pending = (Request){};
        h->phase = HTTP_REQUEST_LINE;
}

/* Takes the n_new bytes behind the used ones. After a fault the phase and the bytes kept from earlier reads stay as they were, and
 * the rest of this read is gone: that is how the real one goes on. */
void http_received(Http *h, size_t n_new, Buffer *out) {
        size_t start = 0, end = h->used + n_new;

        for (;;) {
                Request *r = &h->pending;
                const char *line = h->in + start, *eol;
                size_t size;

                if (h->phase == HTTP_BODY) {
                        size = r->length - r->body_size;
                        if (size > end - start)
                                size = end - start;
                        memcpy(r->body + r->body_size, line, size);
                        r->body_size += size;
                        start += size;
                        if (r->body_size < r->length) {
                                h->used = 0;
                                return;
                        }
                        request_is_ready(h);
                        continue;
                }

                eol = memmem(line, end - start, "\r\n", 2);
                if (!eol) {
                        if (start == 0 && end == sizeof h->in) {
                                if (h->phase == HTTP_REQUEST_LINE)
                                        http_refuse(h, out, "Invalid request.");
                                else
                                        http_refuse(h, out,
                                                    "Invalid header. Reason: Invalid content length. Header: %.*s",
                                                    (int)end, h->in);
                                return;
                        }
                        memmove(h->in, line, end - start);
                        h->used = end - start;
                        return;
                }
                size = (size_t)(eol - line);
                start += size + 2;

                if (h->phase == HTTP_REQUEST_LINE) {
                        if (!parse_request_line(h, out, line, size))
                                return;
                        h->phase = HTTP_HEADERS;
                } else if (size > 0) {
                        if (!parse_header(h, out, line, size))
                                return;
                } else if (r->length == 0)
                        request_is_ready(h);
                else if (r->length > BODY_MAX) {
                        http_refuse(h, out,
                                    "Request payload with size %u is larger than the limit of %u allowed by server.",
                                    r->length, BODY_MAX);
                        return;
                } else {
                        if (r->expect)
                                http_answer(out, 100, NULL);
                        r->body = malloc(r->length);
                        if (!r->body)
                                abort();
                        h->phase = HTTP_BODY;
                }
        }
}

void vm_init(Vm *vm) {
        *vm = (Vm){
                .id = "anonymous-instance",
                .guest_delay_usec = 20000,
                .vcpu_count = 1,
                .mem_size_mib = 128,
                .huge_pages = "None",
                .reset_usec = USEC_INFINITY,
        };
}

__attribute__((format(printf, 2, 3))) static bool vm_fault(Vm *vm, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        vsnprintf(vm->fault, sizeof vm->fault, format, ap);
        va_end(ap);
        return false;
}

static bool can_open(const char *path) {
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

        if (fd >= 0)
                close(fd);
        return fd >= 0;
}

/* Each of the six: the body is read, then what it asks for is done. False: either j->error or vm->fault says why. The id is the
 * path's, and missing in a configuration file. */
static bool configure_boot_source(Vm *vm, Json *j, const char *id, bool in_config) {
        char kernel[JSON_STRING_MAX] = "", initrd[JSON_STRING_MAX] = "", args[JSON_STRING_MAX];
        JsonField fields[] = {
                {.name = "kernel_image_path", .read = json_read_string, .into = kernel, .required = true},
                {.name = "initrd_path", .read = json_read_optional_string, .into = initrd},
                {.name = "boot_args", .read = json_read_optional_string, .into = args},
        };

        (void)id;
        if (!json_read_object(j, "struct BootSourceConfig", fields, 3, false) ||
            !(in_config || json_end(j)))
                return false;
        if (vm->state != VM_NOT_STARTED)
                return vm_fault(vm, NOT_AFTER_START);
        if (!can_open(kernel))
                return vm_fault(vm,
                                "Boot source error: The kernel file cannot be opened: %s (os error %d)",
                                strerror(errno), errno);
        if (initrd[0] && !can_open(initrd))
                return vm_fault(vm,
                                "Boot source error: The initrd file cannot be opened due to invalid path or invalid permissions. "
                                "%s (os error %d)",
                                strerror(errno), errno);
        vm->has_boot_source = true;
        return true;
}

static bool configure_machine(Vm *vm, Json *j, const char *id, bool in_config) {
        uint64_t vcpus = 0, mib = 0;
        bool smt = false, dirty = false;
        char huge[JSON_STRING_MAX] = "None";
        JsonField fields[] = {
                {.name = "vcpu_count", .read = json_read_u8, .into = &vcpus, .required = true},
                {.name = "mem_size_mib", .read = json_read_usize, .into = &mib, .required = true},
                {.name = "smt", .read = json_read_bool, .into = &smt},
                {.name = "cpu_template"},
                {.name = "track_dirty_pages", .read = json_read_bool, .into = &dirty},
                {.name = "huge_pages", .read = json_read_string, .into = huge},
        };

        (void)id;
        if (!json_read_object(j, "struct MachineConfig", fields, 6, false) ||
            !(in_config || json_end(j)))
                return false;
        if (vm->state != VM_NOT_STARTED)
                return vm_fault(vm, NOT_AFTER_START);
        if (vcpus == 0 || vcpus > 32 || (smt && vcpus > 1 && vcpus % 2 != 0))
                return vm_fault(vm, "Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 "
                                    "or an even number if SMT is enabled.");
        if (mib == 0)
                return vm_fault(vm, "Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured "
                                    "page size.");
        vm->vcpu_count = vcpus;
        vm->mem_size_mib = mib;
        vm->smt = smt;
        vm->track_dirty_pages = dirty;
        strcpy(vm->huge_pages, huge);
        return true;
}

static bool configure_drive(Vm *vm, Json *j, const char *id, bool in_config) {
        char drive_id[JSON_STRING_MAX] = "", path[JSON_STRING_MAX] = "";
        bool is_root;
        JsonField fields[] = {
                {.name = "drive_id", .read = json_read_string, .into = drive_id, .required = true},
                {.name = "partuuid"},
                {.name = "is_root_device", .read = json_read_bool, .into = &is_root, .required = true},
                {.name = "cache_type"},
                {.name = "is_read_only"},
                {.name = "path_on_host", .read = json_read_optional_string, .into = path},
                {.name = "rate_limiter"},
                {.name = "io_engine"},
                {.name = "socket"},
        };

        if (!json_read_object(j, "struct BlockDeviceConfig", fields, 9, false) ||
            !(in_config || json_end(j)))
                return false;
        if (id && strcmp(id, drive_id) != 0)
                return vm_fault(vm, "The id from the path does not match the id from the body!");
        if (vm->state != VM_NOT_STARTED)
                return vm_fault(vm, "PCI is not enabled");
        if (path[0] && !can_open(path))
                return vm_fault(vm,
                                "Drive config error: Unable to create the virtio block device: Virtio backend error: Error "
                                "manipulating the backing file: %s (os error %d) %s",
                                strerror(errno), errno, path);
        return true;
}

/* As the real one attaches: by name, one queue, let go by an exec. As root it makes a tap that is not there. */
static int open_tap(Vm *vm, const char *name) {
        struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
        int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), e;

        if (fd < 0) {
                vm_fault(vm, "Couldn't open /dev/net/tun: %s (os error %d)", strerror(errno), errno);
                return -1;
        }
        if (strlen(name) >= IFNAMSIZ) {
                vm_fault(vm, "Invalid interface name");
                close(fd);
                return -1;
        }
        strcpy(ifr.ifr_name, name);
        if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
                e = errno;
                vm_fault(vm,
                         "Error while creating ifreq structure: %s (os error %d). Invalid TUN/TAP Backend provided by %s. Check "
                         "our documentation on setting up the network devices.",
                         strerror(e), e, name);
                close(fd);
                return -1;
        }
        return fd;
}

static bool configure_network(Vm *vm, Json *j, const char *id, bool in_config) {
        char iface_id[JSON_STRING_MAX] = "", tap[JSON_STRING_MAX] = "", mac[JSON_STRING_MAX] = "",
             *why;
        JsonField fields[] = {
                {.name = "iface_id", .read = json_read_string, .into = iface_id, .required = true},
                {.name = "host_dev_name", .read = json_read_string, .into = tap, .required = true},
                {.name = "guest_mac", .read = json_read_optional_string, .into = mac},
                {.name = "mtu"},
                {.name = "rx_rate_limiter"},
                {.name = "tx_rate_limiter"},
        };
        size_t i;
        int fd;

        if (!json_read_object(j, "struct NetworkInterfaceConfig", fields, 6, false) ||
            !(in_config || json_end(j)))
                return false;
        if (id && strcmp(id, iface_id) != 0)
                return vm_fault(vm,
                                "The id from the path [%s] does not match the id from the body [%.2000s]!",
                                id, iface_id);
        if (vm->state != VM_NOT_STARTED)
                return vm_fault(vm, "PCI is not enabled");

        /* An interface that is set again lets its tap go first, and has none if that fails. */
        for (i = 0; i < vm->n_taps; i++)
                if (strcmp(vm->taps[i].id, iface_id) == 0) {
                        close(vm->taps[i].fd);
                        vm->taps[i] = vm->taps[--vm->n_taps];
                        break;
                }
        if (vm->n_taps == VM_TAPS_MAX)
                return vm_fault(vm, "The stand-in has room for %u interfaces.", VM_TAPS_MAX);
        fd = open_tap(vm, tap);
        if (fd < 0) {
                why = strdup(vm->fault);
                if (!why)
                        abort();
                vm_fault(vm,
                         "Network %s error: Could not create the network device: Open tap device failed: %s",
                         in_config ? "device" : "config", why);
                free(why);
                return false;
        }
        vm->taps[vm->n_taps].fd = fd;
        strcpy(vm->taps[vm->n_taps++].id, iface_id);
        return true;
}

static bool config_boot_source(Json *j, void *vm) {
        return configure_boot_source(vm, j, NULL, true);
}

static bool config_machine(Json *j, void *vm) {
        return configure_machine(vm, j, NULL, true);
}

static bool config_drive(Json *j, void *vm) {
        return configure_drive(vm, j, NULL, true);
}

static bool config_drives(Json *j, void *vm) {
        return json_read_array(j, config_drive, vm);
}

static bool config_network(Json *j, void *vm) {
        return configure_network(vm, j, NULL, true);
}

static bool config_networks(Json *j, void *vm) {
        return json_read_array(j, config_network, vm);
}

bool vm_configure(Vm *vm, const char *text, size_t size) {
        Json j = {.text = text, .size = size};
        JsonField fields[] = {
                {.name = "drives", .read = config_drives, .into = vm, .required = true},
                {.name = "boot-source", .read = config_boot_source, .into = vm, .required = true},
                {.name = "machine-config", .read = config_machine, .into = vm},
                {.name = "network-interfaces", .read = config_networks, .into = vm},
        };

        if (!json_read_object(&j, "struct VmmConfig", fields, 4, true) || !json_end(&j))
                return j.error[0] ? vm_fault(vm, "Invalid JSON: %s", j.error) : false;
        vm->state = VM_RUNNING;
        return true;
}

static bool send_ctrl_alt_del(Vm *vm) {
        if (vm->state == VM_RUNNING && !vm->ignores_ctrl_alt_del) {
                if (vm->reset_usec == USEC_INFINITY)
                        vm->reset_usec = now_usec() + vm->guest_delay_usec;
                return true;
        }
        if (vm->unread_keys == KEYS_MAX)
                return vm_fault(vm, "Internal VMM error: I8042 error: i8042 internal buffer full.");
        vm->unread_keys++;
        return true;
}

static bool read_action(Json *j, void *into) {
        static const char *const actions[] = {"FlushMetrics", "InstanceStart", "SendCtrlAltDel",
                                              NULL};

        return json_read_variant(j, actions, into);
}

static bool put_action(Vm *vm, Json *j, const char *id, bool in_config) {
        size_t action = 0;
        JsonField field = {.name = "action_type",
                           .read = read_action,
                           .into = &action,
                           .required = true};

        (void)id;
        (void)in_config;
        if (!json_read_object(j, "struct ActionBody", &field, 1, false) || !json_end(j))
                return false;
        if (vm->refuse)
                return vm_fault(vm, "%s", vm->refuse);

        if (action == 1) {
                if (vm->state != VM_NOT_STARTED)
                        return vm_fault(vm, NOT_AFTER_START);
                if (!vm->has_boot_source)
                        return vm_fault(vm,
                                        "Start microvm error: Cannot start microvm without kernel configuration.");
                vm->state = VM_RUNNING;
                return true;
        }
        if (vm->state == VM_NOT_STARTED)
                return vm_fault(vm, NOT_BEFORE_START);
        return action == 0 || send_ctrl_alt_del(vm);
}

static bool read_state(Json *j, void *into) {
        static const char *const states[] = {"Paused", "Resumed", NULL};

        return json_read_variant(j, states, into);
}

static bool patch_vm(Vm *vm, Json *j, const char *id, bool in_config) {
        size_t state = 0;
        JsonField field = {.name = "state", .read = read_state, .into = &state, .required = true};

        (void)id;
        (void)in_config;
        if (!json_read_object(j, "struct Vm", &field, 1, false) || !json_end(j))
                return false;
        if (vm->state == VM_NOT_STARTED)
                return vm_fault(vm, NOT_BEFORE_START);

        if (state == 0) {
                /* Keys on their way to a guest that is stopped now wait for it. */
                if (vm->reset_usec != USEC_INFINITY) {
                        vm->reset_usec = USEC_INFINITY;
                        vm->unread_keys = 1;
                }
                vm->state = VM_PAUSED;
                return true;
        }
        vm->state = VM_RUNNING;
        if (vm->unread_keys > 0 && !vm->ignores_ctrl_alt_del) {
                vm->unread_keys = 0;
                vm->reset_usec = now_usec() + vm->guest_delay_usec;
        }
        return true;
}

static void get(Vm *vm, Buffer *out, const char *path) {
        static const char *const states[] = {"Not started", "Running", "Paused"};
        Buffer body = {};

        if (path[0] == 0)
                buffer_printf(&body,
                              "{\"id\":\"%s\",\"state\":\"%s\",\"vmm_version\":\"%s\",\"app_name\":\"Firecracker\"}",
                              vm->id, states[vm->state], FIRECRACKER_VERSION);
        else if (strcmp(path, "version") == 0)
                buffer_printf(&body, "{\"firecracker_version\":\"%s\"}", FIRECRACKER_VERSION);
        else
                buffer_printf(&body,
                              "{\"vcpu_count\":%llu,\"mem_size_mib\":%llu,\"smt\":%s,\"track_dirty_pages\":%s,\"huge_pages\":\"%s\"}",
                              (unsigned long long)vm->vcpu_count,
                              (unsigned long long)vm->mem_size_mib, vm->smt ? "true" : "false",
                              vm->track_dirty_pages ? "true" : "false", vm->huge_pages);
        buffer_append(&body, "", 1);
        http_answer(out, 200, body.data);
        buffer_free(&body);
}

/* The path of a target, and the name after it: "/drives/root" gives "drives" and "root". Cuts the target. */
static void split_target(char *target, char **path, char **id) {
        char *p = target;

        if (strncmp(p, "http://", 7) == 0)
                p = strchr(p + 7, '/') ?: p + strlen(p);
        else if (*p != '/')
                p += strlen(p);
        p += strspn(p, "/");
        *path = strsep(&p, "/");
        *id = p && *p ? strsep(&p, "/") : NULL;
}

void vm_request(Vm *vm, const Request *r, Buffer *out) {
        static const struct {
                const char *method, *path;
                bool (*serve)(Vm *vm, Json *j, const char *id, bool in_config);
                bool with_id;
        } bodies[] = {
                {"PUT", "actions", put_action, false},
                {"PATCH", "vm", patch_vm, false},
                {"PUT", "boot-source", configure_boot_source, false},
                {"PUT", "machine-config", configure_machine, false},
                {"PUT", "drives", configure_drive, true},
                {"PUT", "network-interfaces", configure_network, true},
        };
        Json j = {.text = r->body, .size = r->body_size};
        char target[sizeof r->target], *path, *id;

        strcpy(target, r->target);
        split_target(target, &path, &id);

        if (strcmp(r->method, "GET") == 0) {
                if (r->body_size > 0)
                        http_fault(out, "GET request cannot have a body.");
                else if (path[0] == 0 || strcmp(path, "version") == 0 ||
                         strcmp(path, "machine-config") == 0)
                        get(vm, out, path);
                else
                        http_fault(out, "Invalid request method and/or path: GET %s.", path);
                return;
        }
        if (strcmp(r->method, "DELETE") == 0 && r->body_size > 0) {
                http_fault(out, "Empty Delete request.");
                return;
        }
        if (strcmp(r->method, "DELETE") != 0 && r->body_size == 0) {
                http_fault(out, "Empty %s request.", r->method);
                return;
        }

        for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
                if (strcmp(bodies[i].method, r->method) != 0 || strcmp(bodies[i].path, path) != 0)
                        continue;
                if (bodies[i].with_id && !id)
                        http_fault(out, "The ID cannot be empty.");
                else if (bodies[i].with_id &&
                         id[strspn(id, "_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")])
                        http_fault(out,
                                   "API Resource IDs can only contain alphanumeric characters and underscores.");
                else if (bodies[i].serve(vm, &j, id, false))
                        http_answer(out, 204, NULL);
                else if (j.error[0])
                        http_fault(out,
                                   "An error occurred when deserializing the json body of a request: %s.",
                                   j.error);
                else
                        http_fault(out, "%s", vm->fault);
                return;
        }
        http_fault(out, "Invalid request method and/or path: %s %s.", r->method, path);
}
