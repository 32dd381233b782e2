/* SPDX-License-Identifier: MIT */
/* The real kernel calls. Debian 12's headers are of Linux 6.1, so what is younger is defined
 * here, from include/uapi/linux/pidfd.h and asm-generic/socket.h of Linux 6.15. */

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/kernel.h"

#ifndef SO_PEERPIDFD
#  define SO_PEERPIDFD 77
#endif
#ifndef __NR_fchmodat2
#  define __NR_fchmodat2 452
#endif

struct pidfd_info_v1 {
        uint64_t mask, cgroupid;
        uint32_t pid, tgid, ppid;
        uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
        int32_t exit_code;
};
#define PIDFD_INFO_MASK_CREDS (1ULL << 1)
#define PIDFD_INFO_MASK_EXIT (1ULL << 3)
#define PIDFD_GET_INFO_V1 _IOWR(0xFF, 11, struct pidfd_info_v1)

static int negative_errno(long r) {
        return r < 0 ? -errno : (int)r;
}

static unsigned real_release(void) {
        struct utsname name;
        unsigned major = 0, minor = 0;

        if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
                return 0;
        return major * 1000 + minor;
}

static int real_pidfd_open(pid_t pid) {
        return negative_errno(syscall(SYS_pidfd_open, pid, 0));
}

static int real_pidfd_send_signal(int pidfd, int signal) {
        return negative_errno(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

static int real_pidfd_info(int pidfd, PidfdInfo *ret) {
        struct pidfd_info_v1 info = {.mask = PIDFD_INFO_MASK_CREDS | PIDFD_INFO_MASK_EXIT};

        if (ioctl(pidfd, PIDFD_GET_INFO_V1, &info) < 0)
                return errno == ENOTTY || errno == EINVAL ? -ENOSYS : -errno;
        *ret = (PidfdInfo){
                .has_uids = info.mask & PIDFD_INFO_MASK_CREDS,
                .uids_agree = info.ruid == info.euid && info.euid == info.suid &&
                              info.suid == info.fsuid,
                .uid = info.euid,
                .has_exit = info.mask & PIDFD_INFO_MASK_EXIT,
                .wait_status = info.exit_code,
        };
        return 0;
}

static int real_peer_pidfd(int socket) {
        socklen_t size = sizeof(int);
        int pidfd;

        if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) < 0)
                return -errno;
        return pidfd;
}

static int real_peer_credentials(int socket, struct ucred *ret) {
        socklen_t size = sizeof(*ret);

        return negative_errno(getsockopt(socket, SOL_SOCKET, SO_PEERCRED, ret, &size));
}

static int real_chmod_path_fd(int fd, mode_t mode) {
        return negative_errno(syscall(__NR_fchmodat2, fd, "", mode, AT_EMPTY_PATH));
}

static int real_open_beneath(int directory, const char *path) {
        struct open_how how = {
                .flags = O_PATH | O_CLOEXEC,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
                           RESOLVE_NO_XDEV,
        };
        long fd;

        /* EAGAIN: a rename elsewhere raced with the walk (openat2(2)) */
        for (int i = 0; i < 16; i++) {
                fd = syscall(SYS_openat2, directory, path, &how, sizeof(how));
                if (fd >= 0 || errno != EAGAIN)
                        break;
        }
        return negative_errno(fd);
}

static ssize_t real_netlink_send(int fd, const void *data, size_t size) {
        ssize_t n = send(fd, data, size, 0);

        return n < 0 ? -errno : n;
}

static ssize_t real_netlink_receive(int fd, void *data, size_t size) {
        ssize_t n = recv(fd, data, size, MSG_TRUNC);

        return n < 0 ? -errno : n;
}

static int real_tun_ioctl(int fd, unsigned long request, unsigned long argument) {
        return negative_errno(ioctl(fd, request, argument));
}

const Kernel kernel = {
        .release = real_release,
        .pidfd_open = real_pidfd_open,
        .pidfd_send_signal = real_pidfd_send_signal,
        .pidfd_info = real_pidfd_info,
        .peer_pidfd = real_peer_pidfd,
        .peer_credentials = real_peer_credentials,
        .chmod_path_fd = real_chmod_path_fd,
        .open_beneath = real_open_beneath,
        .netlink_send = real_netlink_send,
        .netlink_receive = real_netlink_receive,
        .tun_ioctl = real_tun_ioctl,
};
