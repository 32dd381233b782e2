/* SPDX-License-Identifier: MIT */
/* The table of kernel calls for unit tests: netlink answers from a script, the rest either the real
 * thing without any privilege (pidfds) or refused. Guards nothing itself. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fake-kernel.h"

#define STEPS 64
#define DATAGRAM 16384
#define SENT 2048

typedef struct Step {
        int error;
        bool bytes, oversize;
        size_t size;    /* of what is built */
        size_t arrives; /* SIZE_MAX: all of it */
        struct nlmsghdr *last;
        _Alignas(8) char data[DATAGRAM];
} Step;

static Step steps[STEPS];
static unsigned n_steps, at_step, n_sent;
static int send_error;
static _Alignas(8) char sent[STEPS][SENT];
static int exit_status;
static bool has_exit;
static unsigned exit_calls_before;

void fake_reset(void) {
        memset(steps, 0, sizeof(steps[0]) * n_steps);
        n_steps = at_step = n_sent = 0;
        send_error = 0;
        has_exit = false;
}

static Step *step_new(void) {
        if (n_steps == STEPS)
                abort();
        steps[n_steps] = (Step){.arrives = SIZE_MAX};
        return &steps[n_steps++];
}

void fake_refuse_send(int error) {
        send_error = error;
}

void fake_receive_error(int error) {
        step_new()->error = error;
}

void fake_datagram(void) {
        (void)step_new();
}

static size_t step_size(const Step *s) {
        return s->last && !s->bytes
                       ? (size_t)((char *)s->last - s->data) + MNL_ALIGN(s->last->nlmsg_len)
                       : s->size;
}

struct nlmsghdr *fake_message(uint16_t type, uint16_t flags) {
        Step *s = &steps[n_steps - 1];

        s->last = mnl_nlmsg_put_header(s->data + step_size(s));
        s->last->nlmsg_type = type;
        s->last->nlmsg_flags = flags;
        s->last->nlmsg_seq = FAKE_SEQUENCE;
        s->last->nlmsg_pid = FAKE_PORT;
        return s->last;
}

void fake_bytes(const void *data, size_t size) {
        Step *s = step_new();

        s->bytes = true;
        s->size = size < DATAGRAM ? size : DATAGRAM;
        memcpy(s->data, data, s->size);
}

void fake_cut(size_t size) {
        steps[n_steps - 1].arrives = size;
}

void fake_oversize(void) {
        steps[n_steps - 1].oversize = true;
}

void fake_ack(int error, const char *text) {
        struct nlmsghdr *m;
        struct nlmsgerr *e;

        fake_datagram();
        m = fake_message(NLMSG_ERROR, NLM_F_CAPPED | (text ? NLM_F_ACK_TLVS : 0));
        e = mnl_nlmsg_put_extra_header(m, sizeof(*e));
        e->error = error;
        if (text)
                mnl_attr_put_strz(m, NLMSGERR_ATTR_MSG, text);
}

void fake_done(int error, uint16_t flags) {
        fake_datagram();
        *(int *)mnl_nlmsg_put_extra_header(fake_message(NLMSG_DONE, NLM_F_MULTI | flags),
                                           sizeof(int)) = error;
}

const struct nlmsghdr *fake_sent(unsigned n) {
        return n < n_sent ? (const struct nlmsghdr *)sent[n % STEPS] : NULL;
}

unsigned fake_sent_count(void) {
        return n_sent;
}

unsigned fake_script_left(void) {
        return n_steps - at_step;
}

void fake_exit(int wait_status, unsigned calls_before) {
        has_exit = true;
        exit_status = wait_status;
        exit_calls_before = calls_before;
}

static ssize_t fake_netlink_send(int fd, const void *data, size_t size) {
        if (send_error < 0)
                return send_error;
        if (size > SENT)
                abort();
        memcpy(sent[n_sent++ % STEPS], data, size);
        return (ssize_t)size;
}

static uint32_t port_of(int fd) {
        struct sockaddr_nl address = {};
        socklen_t size = sizeof(address);

        return getsockname(fd, (struct sockaddr *)&address, &size) == 0 ? address.nl_pid : 0;
}

static ssize_t fake_netlink_receive(int fd, void *data, size_t size) {
        const struct nlmsghdr *request = n_sent > 0 ? fake_sent(n_sent - 1) : NULL;
        struct nlmsghdr *m;
        size_t whole;
        int left;
        Step *s;

        if (at_step == n_steps)
                return -EAGAIN;
        s = &steps[at_step++];
        if (s->error < 0)
                return s->error;
        whole = step_size(s);
        left = (int)whole;
        for (m = (struct nlmsghdr *)s->data;
             mnl_nlmsg_ok(m, left) && m->nlmsg_len <= (uint32_t)left; m = mnl_nlmsg_next(m, &left)) {
                if (m->nlmsg_seq == FAKE_SEQUENCE && request)
                        m->nlmsg_seq = request->nlmsg_seq;
                if (m->nlmsg_pid == FAKE_PORT)
                        m->nlmsg_pid = port_of(fd);
        }
        whole = s->arrives < whole ? s->arrives : whole;
        whole = whole < size ? whole : size;
        memcpy(data, s->data, whole);
        return (ssize_t)(s->oversize ? size + 1 : whole);
}

static unsigned fake_release(void) {
        return 6018;
}

static int fake_pidfd_open(pid_t pid) {
        int fd = (int)syscall(SYS_pidfd_open, pid, 0);

        return fd < 0 ? -errno : fd;
}

static int fake_pidfd_send_signal(int pidfd, int signal) {
        return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

static int fake_pidfd_info(int pidfd, PidfdInfo *ret) {
        if (!has_exit)
                return -ENOSYS;
        *ret = (PidfdInfo){};
        if (exit_calls_before > 0) {
                exit_calls_before--;
                return 0;
        }
        ret->has_exit = true;
        ret->wait_status = exit_status;
        return 0;
}

static int fake_peer_pidfd(int socket) {
        return -ENOPROTOOPT;
}

static int fake_peer_credentials(int socket, struct ucred *ret) {
        return -EOPNOTSUPP;
}

static int fake_chmod_path_fd(int fd, mode_t mode) {
        return -ENOSYS;
}

static int fake_open_beneath(int directory, const char *path) {
        return -ENOENT;
}

static int fake_tun_ioctl(int fd, unsigned long request, unsigned long argument) {
        return -EPERM;
}

const Kernel kernel = {
        .release = fake_release,
        .pidfd_open = fake_pidfd_open,
        .pidfd_send_signal = fake_pidfd_send_signal,
        .pidfd_info = fake_pidfd_info,
        .peer_pidfd = fake_peer_pidfd,
        .peer_credentials = fake_peer_credentials,
        .chmod_path_fd = fake_chmod_path_fd,
        .open_beneath = fake_open_beneath,
        .netlink_send = fake_netlink_send,
        .netlink_receive = fake_netlink_receive,
        .tun_ioctl = fake_tun_ioctl,
};
