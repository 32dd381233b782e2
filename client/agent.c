/* SPDX-License-Identifier: MIT */
/* Asking for a password on a plain terminal.
 *
 * Desktops have an agent of their own; in a terminal, at a console or over ssh there is none, and
 * a question nobody can be asked is a refusal. pkttyagent(1) is run for our process only, and as
 * a fallback, so that it does not take over from a desktop's. Root is never asked anything, and a
 * remote host's polkit would look for its agent there.
 *
 * The agent switches the terminal's echo off while a password is typed. If it is ended there, by
 * Ctrl-C or because the call timed out, it does not switch it on again: so the terminal's state is
 * ours to keep, and Ctrl-C ours to catch. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-login.h>
#include <termios.h>

#include "agent.h"
#include "output.h"

#define READY_MSEC 5000

static pid_t agent;
static bool tried;
static int terminal = -1;
static struct termios state;
static const int caught[] = {SIGINT, SIGTERM, SIGQUIT};
static struct sigaction old[ELEMENTS(caught)];
static volatile sig_atomic_t interrupted;

static void on_signal(int number) {
        interrupted = 1;
}

bool agent_interrupted(void) {
        return interrupted;
}

static void agent_exec(int ready, int tty, pid_t parent) {
        char fd[16], pid[16];
        sigset_t none;

        for (size_t i = 0; i < ELEMENTS(caught); i++)
                (void)signal(caught[i], SIG_DFL);
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
                _exit(127);
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)signal(SIGPIPE, SIG_DFL);
        (void)dup2(tty, STDIN_FILENO);
        (void)dup2(tty, STDOUT_FILENO);
        (void)dup2(tty, STDERR_FILENO);
        (void)fcntl(ready, F_SETFD, 0);
        (void)snprintf(fd, sizeof(fd), "%d", ready);
        (void)snprintf(pid, sizeof(pid), "%d", parent);
        /* without a session there is no desktop to go before us, and polkit looks at no fallback */
        (void)execlp("pkttyagent", "pkttyagent", "--notify-fd", fd, "--process", pid,
                     sd_pid_get_session(0, NULL) >= 0 ? "--fallback" : NULL, NULL);
        _exit(127);
}

void agent_open(const Ctl *ctl) {
        struct sigaction catch = {.sa_handler = on_signal};
        pid_t parent = getpid();
        struct pollfd p;
        int fds[2];

        if (tried || ctl->no_ask_password || ctl_remote(ctl) || geteuid() == 0)
                return;
        tried = true;
        terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
        if (terminal < 0)
                return;
        /* in the background it would be stopped when it reads */
        if (tcgetpgrp(terminal) != getpgrp() || tcgetattr(terminal, &state) < 0 ||
            pipe2(fds, O_CLOEXEC) < 0) {
                terminal = close_fd(terminal);
                return;
        }
        output_status_clear();
        (void)fflush(stderr);
        for (size_t i = 0; i < ELEMENTS(caught); i++)
                (void)sigaction(caught[i], &catch, &old[i]);
        agent = fork();
        if (agent == 0)
                agent_exec(fds[1], terminal, parent);
        (void)close(fds[1]);
        /* it closes its end when polkit knows it, or when it cannot be run */
        p = (struct pollfd){.fd = fds[0], .events = POLLIN};
        if (agent > 0)
                (void)poll(&p, 1, READY_MSEC);
        (void)close(fds[0]);
}

void agent_close(void) {
        if (terminal < 0)
                return;
        if (agent > 0) {
                (void)kill(agent, SIGTERM);
                (void)kill(agent, SIGCONT);
                while (waitpid(agent, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
        agent = 0;
        (void)tcsetattr(terminal, TCSADRAIN, &state);
        (void)tcflush(terminal, TCIFLUSH);
        terminal = close_fd(terminal);
        for (size_t i = 0; i < ELEMENTS(caught); i++)
                (void)sigaction(caught[i], &old[i], NULL);
}
