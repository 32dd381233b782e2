/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "common/cleanup.h"
#include "socket-state.h"

SocketState socket_state(int directory, const char *name, uid_t uid, time_t *ret_age) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_close_ int fd = -1;
        struct timespec now;
        struct stat st;
        int n;

        if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? SOCKET_ABSENT : SOCKET_OTHER;
        if (!S_ISSOCK(st.st_mode) || st.st_uid != uid)
                return SOCKET_OTHER;
        (void)clock_gettime(CLOCK_REALTIME, &now);
        if (ret_age)
                *ret_age = now.tv_sec - st.st_ctim.tv_sec;
        if (directory == AT_FDCWD || *name == '/')
                n = snprintf(address.sun_path, sizeof(address.sun_path), "%s", name);
        else
                n = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s",
                             directory, name);
        if (n < 0 || (size_t)n >= sizeof(address.sun_path))
                return SOCKET_OTHER;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return SOCKET_OTHER;
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN)
                return SOCKET_IN_USE;
        return errno == ECONNREFUSED ? SOCKET_STALE : SOCKET_OTHER;
}
