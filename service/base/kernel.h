/* SPDX-License-Identifier: MIT */
#pragma once

/* The seam: the kernel calls that differ between kernels or that tests must be able to refuse.
 * The daemon links kernel.c; tests/ links tables of its own (an old kernel, a failing one) to the
 * same core. Every call returns a negative errno on failure and sets no errno that anybody reads. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

typedef struct PidfdInfo {
        bool has_uids; /* all four of them are the same in .uid where .uids_agree */
        bool uids_agree;
        uid_t uid;
        bool has_exit;
        int wait_status; /* as wait(2) gives it */
} PidfdInfo;

typedef struct Kernel {
        /* uname(2) as major * 1000 + minor: 6.18 is 6018. */
        unsigned (*release)(void);
        int (*pidfd_open)(pid_t pid);
        int (*pidfd_send_signal)(int pidfd, int signal);
        /* PIDFD_GET_INFO: uids from Linux 6.13, the wait status from 6.15 and only after the
         * reap. -ENOSYS where the kernel has no such call, -ESRCH where it has forgotten. */
        int (*pidfd_info)(int pidfd, PidfdInfo *ret);
        /* SO_PEERPIDFD (6.5): the process that called listen(2), pinned. -ENOPROTOOPT before. */
        int (*peer_pidfd)(int socket);
        int (*peer_credentials)(int socket, struct ucred *ret);
        /* fchmodat2(2) on an O_PATH descriptor (6.6); -ENOSYS before. */
        int (*chmod_path_fd)(int fd, mode_t mode);
        /* openat2(2), O_PATH | O_CLOEXEC with RESOLVE_BENEATH, NO_SYMLINKS, NO_MAGICLINKS, NO_XDEV. */
        int (*open_beneath)(int directory, const char *path);
        /* Sends one netlink request / receives one datagram. */
        ssize_t (*netlink_send)(int fd, const void *data, size_t size);
        ssize_t (*netlink_receive)(int fd, void *data, size_t size);
        int (*tun_ioctl)(int fd, unsigned long request, unsigned long argument);
} Kernel;

extern const Kernel kernel;

/* What docs/kernels.md lists; found out once, at the start. */
typedef struct Features {
        bool peer_pidfd, exit_status, fchmodat2, locked_port, live_rename;
        bool pidfd_inode; /* pidfds are inodes of their own from 6.9: st_ino identifies a process */
} Features;

void kernel_detect(Features *ret);
