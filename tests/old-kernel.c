/* SPDX-License-Identifier: MIT */
/* The running kernel, as far as it was there in Linux 5.10: what the service falls back to where
 * SO_PEERPIDFD, PIDFD_GET_INFO and fchmodat2 are missing. Guards the fallbacks, with the whole
 * integration suite: FCPROCD=BUILD/tests/fcprocd-old-kernel. */

#include <errno.h>

#include "base/kernel.h"

extern const Kernel real_kernel; /* service/base/kernel.c, compiled with another name */

static unsigned old_release(void) {
        return 5010;
}

static int old_pidfd_open(pid_t pid) {
        return real_kernel.pidfd_open(pid);
}

static int old_pidfd_send_signal(int pidfd, int signal) {
        return real_kernel.pidfd_send_signal(pidfd, signal);
}

static int old_pidfd_info(int pidfd, PidfdInfo *ret) {
        return -ENOSYS;
}

static int old_peer_pidfd(int socket) {
        return -ENOPROTOOPT;
}

static int old_peer_credentials(int socket, struct ucred *ret) {
        return real_kernel.peer_credentials(socket, ret);
}

static int old_chmod_path_fd(int fd, mode_t mode) {
        return -ENOSYS;
}

static int old_open_beneath(int directory, const char *path) {
        return real_kernel.open_beneath(directory, path);
}

static ssize_t old_netlink_send(int fd, const void *data, size_t size) {
        return real_kernel.netlink_send(fd, data, size);
}

static ssize_t old_netlink_receive(int fd, void *data, size_t size) {
        return real_kernel.netlink_receive(fd, data, size);
}

static int old_tun_ioctl(int fd, unsigned long request, unsigned long argument) {
        return real_kernel.tun_ioctl(fd, request, argument);
}

const Kernel kernel = {
        .release = old_release,
        .pidfd_open = old_pidfd_open,
        .pidfd_send_signal = old_pidfd_send_signal,
        .pidfd_info = old_pidfd_info,
        .peer_pidfd = old_peer_pidfd,
        .peer_credentials = old_peer_credentials,
        .chmod_path_fd = old_chmod_path_fd,
        .open_beneath = old_open_beneath,
        .netlink_send = old_netlink_send,
        .netlink_receive = old_netlink_receive,
        .tun_ioctl = old_tun_ioctl,
};
