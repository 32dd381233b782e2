/* SPDX-License-Identifier: MIT */
/* Callers of any user in one process, and the commands of the old way. The bus vouches for the
 * effective uid with which a connection was opened. */

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

void die(const char *what, int error) {
        (void)fprintf(stderr, "bench: %s%s%s\n", what, error ? ": " : "",
                      error ? strerrordesc_np(-error) : "");
        _exit(1);
}

int must(int r, const char *what) {
        if (r < 0)
                die(what, r);
        return r;
}

Account account_find(const char *name) {
        const struct passwd *p = getpwnam(name);

        if (!p)
                die(name, -ENOENT);
        return (Account){name, p->pw_uid, p->pw_gid};
}

sd_bus *client_connect(const Account *account) {
        const char *name;
        sd_bus *bus;

        if (initgroups(account->name, account->gid) < 0 || setegid(account->gid) < 0 ||
            seteuid(account->uid) < 0)
                die("acting as a user", -errno);
        must(sd_bus_open_system(&bus), "the system bus");
        must(sd_bus_get_unique_name(bus, &name), "the system bus"); /* waits until it is ready */
        if (seteuid(0) < 0 || setegid(0) < 0 || setgroups(0, NULL) < 0)
                die("acting as root again", -errno);
        return bus;
}

double call_ms(sd_bus *bus, sd_bus_message **ret_reply, const char *method, const char *types, ...) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        double start = now_ms(), end;
        va_list ap;
        int r;

        va_start(ap, types);
        r = sd_bus_call_methodv(bus, FCPROC, "org.banger.FcProc", method, &error, ret_reply, types,
                                ap);
        end = now_ms();
        va_end(ap);
        if (r < 0) {
                (void)fprintf(stderr, "bench: %s: %s: %s\n", method, error.name, error.message);
                _exit(1);
        }
        return end - start;
}

void settle(Bench *b) {
        for (int i = 0; i < 2; i++)
                must(sd_bus_call_method(b->as_caller, FCPROC, "org.freedesktop.DBus.Peer", "Ping",
                                        NULL, NULL, NULL),
                     "Ping");
}

static void become(const Account *account) {
        if (setgroups(1, &account->gid) < 0 ||
            setresgid(account->gid, account->gid, account->gid) < 0 ||
            setresuid(account->uid, account->uid, account->uid) < 0)
                _exit(126);
}

static int quiet; /* /dev/null */

/* vfork, as what started the old way's commands did: the child borrows the address space. */
__attribute__((noinline)) static pid_t spawn(const Account *account, const char *const *argv) {
        pid_t pid = vfork();

        if (pid != 0)
                return pid;
        become(account);
        (void)dup2(quiet, STDOUT_FILENO);
        (void)execvp(argv[0], (char *const *)argv);
        _exit(127);
}

double run_ms(const Account *account, const char *const *argv) {
        double start, end;
        int status;
        pid_t pid;

        if (quiet == 0)
                quiet = must(open("/dev/null", O_WRONLY | O_CLOEXEC), "/dev/null");
        start = now_ms();
        pid = spawn(account, argv);
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
                die(argv[0], -errno);
        end = now_ms();
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                (void)fprintf(stderr, "bench: %s %s %s … ended with %#x\n", argv[0], argv[1],
                              argv[2] ?: "", (unsigned)status);
                _exit(1);
        }
        return end - start;
}

pid_t fork_sleeper(const Account *account) {
        int ready[2];
        pid_t pid;
        char byte;

        if (pipe(ready) < 0 || (pid = fork()) < 0)
                die("forking", -errno);
        if (pid == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                become(account);
                (void)prctl(PR_SET_NAME, "firecracker");
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of uid takes it away */
                (void)!write(ready[1], "x", 1);
                for (;;)
                        (void)pause();
        }
        (void)close(ready[1]);
        if (read(ready[0], &byte, 1) != 1)
                die("a child", -ECHILD);
        (void)close(ready[0]);
        return pid;
}
