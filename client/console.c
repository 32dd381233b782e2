/* SPDX-License-Identifier: MIT */
/* Firecracker puts a terminal that is its stdin into raw mode, Ctrl-C included (src/vmm/src/vstate/
 * vm.rs), and reads no stdin but a terminal or a pipe (devices/legacy/serial.rs): so it is given a
 * pipe. It also makes its stdout non-blocking (device_manager/mod.rs), which would stay so for the
 * shell after us, and for all who share a pipe: a terminal or a pipe is opened once more for it. What
 * cannot be, as another user's, has its flags put back at the end. All as of
 * Firecracker 1.16. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "console.h"

/* Also true in the foreground of no job control at all. */
static bool in_foreground(int fd) {
        pid_t group = tcgetpgrp(fd);

        return group < 0 || group == getpgrp();
}

/* As our own descriptor, but with flags of its own, if that can be. */
static int open_again(int fd, int mode) {
        char path[32];
        struct stat st;
        int again = -1;

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (isatty(fd) || (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode)))
                again = open(path, mode | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        return again >= 0 ? again : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

int console_open(const Ctl *ctl, Console *c) {
        int out = ctl->json == JSON_OFF ? STDOUT_FILENO : STDERR_FILENO, fds[2];

        *c = CONSOLE_NONE;
        c->out = out;
        c->in_flags = fcntl(STDIN_FILENO, F_GETFL);
        c->out_flags = fcntl(out, F_GETFL);
        c->vmm_out = open_again(out, O_WRONLY);
        if (!isatty(STDIN_FILENO))
                c->vmm_in = open_again(STDIN_FILENO, O_RDONLY);
        else if (!in_foreground(STDIN_FILENO))
                c->vmm_in = open("/dev/null", O_RDONLY | O_CLOEXEC);
        else if (pipe2(fds, O_CLOEXEC) == 0) {
                c->vmm_in = fds[0];
                c->keys = fds[1];
        }
        if (c->vmm_in >= 0 && c->vmm_out >= 0)
                return 0;
        int error = errno;

        console_close(c);
        return -error;
}

void console_take(Console *c) {
        struct termios raw;

        c->vmm_in = close_fd(c->vmm_in);
        c->vmm_out = close_fd(c->vmm_out);
        if (c->keys < 0)
                return;
        (void)fcntl(c->keys, F_SETFL, O_WRONLY | O_NONBLOCK);
        if (tcgetattr(STDIN_FILENO, &c->state) < 0)
                return;
        raw = c->state;
        raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
        raw.c_lflag |= ISIG; /* for Ctrl-C, whatever key that is; the others are the guest's */
        raw.c_cc[VQUIT] = raw.c_cc[VSUSP] = _POSIX_VDISABLE;
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        c->taken = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

bool console_pass(Console *c) {
        char typed[256];
        ssize_t n = read(STDIN_FILENO, typed, sizeof(typed));

        if (n < 0)
                return errno == EAGAIN || errno == EINTR;
        /* A guest that does not read its console loses what is typed, as on any serial line. */
        return n > 0 && (write(c->keys, typed, (size_t)n) >= 0 || errno == EAGAIN);
}

static void restore_flags(int fd, int flags) {
        if (flags >= 0 && fcntl(fd, F_GETFL) != flags)
                (void)fcntl(fd, F_SETFL, flags);
}

void console_close(Console *c) {
        if (c->taken)
                (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &c->state);
        c->taken = false;
        restore_flags(STDIN_FILENO, c->in_flags);
        restore_flags(c->out, c->out_flags);
        c->in_flags = c->out_flags = -1;
        c->vmm_in = close_fd(c->vmm_in);
        c->vmm_out = close_fd(c->vmm_out);
        c->keys = close_fd(c->keys);
}
