/* SPDX-License-Identifier: MIT */
/* The running kernel, which refuses requests of one type while the file that FCPROC_REFUSE names holds
 * its number (RTM_…); dumps pass. Guards nothing itself: it is what test_neighbours.py stands on. */

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/kernel.h"

extern const Kernel real_kernel; /* service/base/kernel.c, compiled with another name */

static unsigned refusing_release(void) {
        return real_kernel.release();
}

static int refusing_pidfd_open(pid_t pid) {
        return real_kernel.pidfd_open(pid);
}

static int refusing_pidfd_send_signal(int pidfd, int signal) {
        return real_kernel.pidfd_send_signal(pidfd, signal);
}

static int refusing_pidfd_info(int pidfd, PidfdInfo *ret) {
        return real_kernel.pidfd_info(pidfd, ret);
}

static int refusing_peer_pidfd(int socket) {
        return real_kernel.peer_pidfd(socket);
}

static int refusing_peer_credentials(int socket, struct ucred *ret) {
        return real_kernel.peer_credentials(socket, ret);
}

static int refusing_chmod_path_fd(int fd, mode_t mode) {
        return real_kernel.chmod_path_fd(fd, mode);
}

static int refusing_open_beneath(int directory, const char *path) {
        return real_kernel.open_beneath(directory, path);
}

static int refused_type(void) {
        const char *path = getenv("FCPROC_REFUSE");
        FILE *file = path ? fopen(path, "re") : NULL;
        int type = 0;

        if (!file)
                return 0;
        if (fscanf(file, "%d", &type) != 1)
                type = 0;
        (void)fclose(file);
        return type;
}

static ssize_t refusing_netlink_send(int fd, const void *data, size_t size) {
        const struct nlmsghdr *m = data;

        if ((m->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP && m->nlmsg_type == refused_type())
                return -ENOBUFS;
        return real_kernel.netlink_send(fd, data, size);
}

static ssize_t refusing_netlink_receive(int fd, void *data, size_t size) {
        return real_kernel.netlink_receive(fd, data, size);
}

static int refusing_tun_ioctl(int fd, unsigned long request, unsigned long argument) {
        return real_kernel.tun_ioctl(fd, request, argument);
}

const Kernel kernel = {
        .release = refusing_release,
        .pidfd_open = refusing_pidfd_open,
        .pidfd_send_signal = refusing_pidfd_send_signal,
        .pidfd_info = refusing_pidfd_info,
        .peer_pidfd = refusing_peer_pidfd,
        .peer_credentials = refusing_peer_credentials,
        .chmod_path_fd = refusing_chmod_path_fd,
        .open_beneath = refusing_open_beneath,
        .netlink_send = refusing_netlink_send,
        .netlink_receive = refusing_netlink_receive,
        .tun_ioctl = refusing_tun_ioctl,
};
