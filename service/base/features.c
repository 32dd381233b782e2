/* SPDX-License-Identifier: MIT */
/* Which of the younger kernel interfaces are there: asked once, at the start, of the kernel
 * itself where asking leaves nothing behind, and of its release where only a bridge with ports
 * could answer. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "base/kernel.h"
#include "common/cleanup.h"

#define PIDFD_THREAD_FLAG O_EXCL /* include/uapi/linux/pidfd.h, Linux 6.9 */
#define PIDFS_MAGIC 0x50494446   /* PID_FS_MAGIC */

static void *brief_thread(void *userdata) {
        int *pidfd = userdata;

        *pidfd = (int)syscall(SYS_pidfd_open, (pid_t)syscall(SYS_gettid), PIDFD_THREAD_FLAG);
        return NULL;
}

/* Does PIDFD_GET_INFO tell how something ended? A thread of our own that has ended is the one
 * thing that can be asked about without a fork. */
static bool has_exit_status(void) {
        _cleanup_close_ int pidfd = -1;
        pthread_t thread;
        PidfdInfo info;

        if (pthread_create(&thread, NULL, brief_thread, &pidfd) != 0)
                return false;
        (void)pthread_join(thread, NULL);
        if (pidfd < 0)
                return false;
        /* join returns when the kernel clears the thread's id, a moment before the reap */
        for (int i = 0; i < 100; i++) {
                if (kernel.pidfd_info(pidfd, &info) < 0)
                        return false;
                if (info.has_exit)
                        return true;
                (void)usleep(100);
        }
        return false;
}

void kernel_detect(Features *ret) {
        _cleanup_close_ int self = kernel.pidfd_open(getpid()), pidfd = -1;
        unsigned release = kernel.release();
        struct statfs fs;
        int pair[2];

        *ret = (Features){
                .locked_port = release >= 5018, /* IFLA_BRPORT_LOCKED; tap.c reads it back */
                .live_rename = release >= 6002,
                .fchmodat2 = kernel.chmod_path_fd(-1, 0600) == -EBADF,
                .exit_status = has_exit_status(),
                .pidfd_inode = self >= 0 && fstatfs(self, &fs) == 0 && fs.f_type == PIDFS_MAGIC,
        };
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
                pidfd = kernel.peer_pidfd(pair[0]);
                ret->peer_pidfd = pidfd >= 0;
                (void)close_fd(pair[0]);
                (void)close_fd(pair[1]);
        }
}
