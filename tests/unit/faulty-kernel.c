/* SPDX-License-Identifier: MIT */
/* Refuses the n-th netlink request or tun ioctl; the rest is the real kernel's. Guards nothing itself:
 * it is what the step-by-step fault tests stand on. */

#include <errno.h>

#include "faulty-kernel.h"

static unsigned fails_at, count;
static int with;
static FaultPlace where;
static bool answer_is_lost;

void faulty_set(unsigned n, int error, FaultPlace place) {
        fails_at = n;
        with = error;
        where = place;
        count = 0;
        answer_is_lost = false;
}

unsigned faulty_count(void) {
        return count;
}

static ssize_t faulty_send(int fd, const void *data, size_t size) {
        if (++count != fails_at)
                return real_kernel.netlink_send(fd, data, size);
        if (where == FAULT_BEFORE)
                return with;
        answer_is_lost = true;
        return real_kernel.netlink_send(fd, data, size);
}

static ssize_t faulty_receive(int fd, void *data, size_t size) {
        ssize_t n = real_kernel.netlink_receive(fd, data, size);

        if (!answer_is_lost)
                return n;
        answer_is_lost = false;
        return with;
}

static int faulty_ioctl(int fd, unsigned long request, unsigned long argument) {
        if (++count != fails_at)
                return real_kernel.tun_ioctl(fd, request, argument);
        return with; /* an ioctl's answer cannot be lost */
}

static unsigned release(void) {
        return real_kernel.release();
}

static int pidfd_open(pid_t pid) {
        return real_kernel.pidfd_open(pid);
}

static int pidfd_send_signal(int pidfd, int signal) {
        return real_kernel.pidfd_send_signal(pidfd, signal);
}

static int pidfd_info(int pidfd, PidfdInfo *ret) {
        return real_kernel.pidfd_info(pidfd, ret);
}

static int peer_pidfd(int socket) {
        return real_kernel.peer_pidfd(socket);
}

static int peer_credentials(int socket, struct ucred *ret) {
        return real_kernel.peer_credentials(socket, ret);
}

static int chmod_path_fd(int fd, mode_t mode) {
        return real_kernel.chmod_path_fd(fd, mode);
}

static int open_beneath(int directory, const char *path) {
        return real_kernel.open_beneath(directory, path);
}

const Kernel kernel = {
        .release = release,
        .pidfd_open = pidfd_open,
        .pidfd_send_signal = pidfd_send_signal,
        .pidfd_info = pidfd_info,
        .peer_pidfd = peer_pidfd,
        .peer_credentials = peer_credentials,
        .chmod_path_fd = chmod_path_fd,
        .open_beneath = open_beneath,
        .netlink_send = faulty_send,
        .netlink_receive = faulty_receive,
        .tun_ioctl = faulty_ioctl,
};
