/* SPDX-License-Identifier: MIT */
/* run's VMM: our child, in a session of its own, on an event loop with the bus, the signals and the
 * keyboard. It is asked to end through the service, as any VM; it is killed as what it is, our
 * child, for which nobody else is needed. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>

#include "i18n.h"
#include "output.h"
#include "report.h"
#include "run.h"
#include "text.h"

/* Those that ask for an end. One that was ignored when we were started stays so (nohup(1), and a
 * shell's background jobs): blocked it would reach a signalfd all the same. */
static const int enders[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

static bool is_ignored(int number) {
        struct sigaction action;

        return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

static void signal_set(sigset_t *set) {
        (void)sigemptyset(set);
        for (size_t i = 0; i < ELEMENTS(enders); i++)
                if (!is_ignored(enders[i]))
                        (void)sigaddset(set, enders[i]);
}

/* From before the VMM is there: one that comes earlier than the loop is not lost. */
static void block_signals(void) {
        sigset_t set;

        signal_set(&set);
        (void)sigaddset(&set, SIGCHLD);
        /* in the background by the end, the terminal is given back all the same */
        (void)sigaddset(&set, SIGTTOU);
        (void)sigprocmask(SIG_BLOCK, &set, NULL);
}

/* What was pressed once too often was meant for the VM; from now on it is meant for us again. */
static void unblock_signals(void) {
        const struct timespec now = {};
        sigset_t set;

        signal_set(&set);
        while (sigtimedwait(&set, NULL, &now) > 0)
                ;
        (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

_Noreturn static void become_vmm(const Run *run, char *arguments[], pid_t parent, int failed) {
        sigset_t none;
        int error;

        /* In a session of its own: the keys of our terminal, and its end, are ours to act on. */
        (void)setsid();
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(127);
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)signal(SIGPIPE, SIG_DFL);
        /* A service manager sends these to all of a unit's processes: to us they mean a shutdown,
         * which the VMM must live to see. It has no handlers for them (signal_handler.rs). */
        (void)signal(SIGTERM, SIG_IGN);
        (void)signal(SIGINT, SIG_IGN);
        if (dup2(run->console.vmm_in, STDIN_FILENO) >= 0 &&
            dup2(run->console.vmm_out, STDOUT_FILENO) >= 0)
                (void)execv(run->binary, arguments);
        error = errno;
        (void)write(failed, &error, sizeof(error));
        _exit(127);
}

int vmm_start(Run *run, int n_extra, char *extra[]) {
        char **arguments = calloc((size_t)n_extra + 6, sizeof(*arguments));
        int fds[2], error, r;
        pid_t parent = getpid();

        if (!arguments)
                abort();
        memcpy(arguments,
               (char *[]){run->binary, "--api-sock", run->target.path, "--config-file",
                          (char *)run->ctl->config_file},
               5 * sizeof(*arguments));
        memcpy(arguments + 5, extra, (size_t)n_extra * sizeof(*arguments));

        block_signals();
        r = console_open(run->ctl, &run->console);
        if (r >= 0 && pipe2(fds, O_CLOEXEC) < 0)
                r = -errno;
        if (r >= 0) {
                run->pid = fork();
                if (run->pid == 0)
                        become_vmm(run, arguments, parent, fds[1]);
                r = run->pid < 0 ? -errno : 0;
                (void)close(fds[1]);
                /* the other end is closed by a successful execv() */
                if (r >= 0 && read(fds[0], &error, sizeof(error)) == (ssize_t)sizeof(error)) {
                        (void)waitpid(run->pid, NULL, 0);
                        r = -error;
                }
                (void)close(fds[0]);
        }
        free(arguments);
        if (r >= 0) {
                if (run->console.keys >= 0)
                        report_note(run->ctl, _("%s runs, pid %d; Ctrl-C shuts it down"), run->name,
                                    run->pid);
                else
                        report_note(run->ctl, _("%s runs, pid %d"), run->name, run->pid);
                console_take(&run->console);
                return CODE_DONE;
        }
        run->pid = 0;
        console_close(&run->console);
        unblock_signals();
        return report_failure(run->ctl, CODE_FAILED, SD_BUS_ERROR_FAILED, _("Cannot start %s: %s"),
                              run->binary, strerror(-r));
}

/* --- while it runs --- */

static void vmm_kill(Run *run) {
        run->killed = true;
        if (run->pid > 0) /* our child, not waited for: the number is its own */
                (void)kill(run->pid, SIGKILL);
}

/* It may have ended while the loop was at something else. */
static bool has_ended(const Run *run) {
        siginfo_t si = {};

        return run->gone || (waitid(P_PID, (id_t)run->pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 &&
                             si.si_pid == run->pid);
}

static void not_asked(Run *run) {
        run->deadline = sd_event_source_disable_unref(run->deadline);
        if (run->insistent)
                vmm_kill(run);
        else
                report_note(run->ctl, _("%s runs on; Ctrl-C kills it"), run->name);
}

static uint64_t grace_of(const Run *run) {
        return run->ctl->have_grace ? run->ctl->grace : GRACE_DEFAULT;
}

/* What is left of it. */
static uint64_t grace_left(const Run *run) {
        uint64_t grace = grace_of(run), gone = now_usec() - run->asked;

        return grace == USEC_FOREVER ? grace : grace > gone ? grace - gone : 0;
}

static int shutdown_build(Ctl *ctl, sd_bus_message *m, void *userdata) {
        const Run *run = userdata;

        return sd_bus_message_append(m, "sta{sv}", run->target.path, grace_left(run), 0);
}

static void on_shutdown(Ctl *ctl, sd_bus_message *reply, const sd_bus_error *e, void *userdata);

static int call_shutdown(Run *run) {
        return call_start(run->ctl, "Shutdown", CALL_WAITING, shutdown_build, on_shutdown, run);
}

static int on_grace_over(sd_event_source *source, uint64_t usec, void *userdata) {
        vmm_kill(userdata);
        return 0;
}

static void keep_grace(Run *run, uint64_t left) {
        if (!run->deadline && sd_event_add_time_relative(run->event, &run->deadline, CLOCK_MONOTONIC,
                                                         left, 0, on_grace_over, run) < 0)
                vmm_kill(run);
}

/* The guest may well be on its way: a service that is restarted, as at the host's own shutdown, is
 * asked once more, which starts it, and again when it comes back later. How long that takes is
 * nobody's promise, so the grace that was promised is kept here from now on. */
static void service_lost(Run *run, const sd_bus_error *e) {
        uint64_t left = grace_left(run);

        if (left != USEC_FOREVER)
                keep_grace(run, left);
        if (!run->asked_again) {
                run->asked_again = true;
                if (call_shutdown(run) >= 0)
                        return;
        }
        (void)report_call(run->ctl, e, 0, NULL);
        run->unserved = true;
        if (left != USEC_FOREVER)
                return;
        if (run->insistent) /* nobody could end it any more */
                keep_grace(run, FOLLOW_PATIENCE);
        else
                not_asked(run);
}

static void on_owner(Follower *f) {
        Run *run = (Run *)f;

        if (!*f->owner || !run->asked_again || run->killed || has_ended(run))
                return;
        run->asked_again = false;
        if (!run->told_again)
                report_note(run->ctl, _("The service was restarted, and is asked again"));
        run->told_again = true;
        if (!run->unserved)
                return; /* it was started by being asked */
        run->unserved = false;
        if (grace_of(run) == USEC_FOREVER)
                run->deadline = sd_event_source_disable_unref(run->deadline);
        if (call_shutdown(run) < 0)
                not_asked(run);
}

static void on_shutdown(Ctl *ctl, sd_bus_message *reply, const sd_bus_error *e, void *userdata) {
        Run *run = userdata;
        const char *how;

        if (run->killed || has_ended(run))
                return;
        if (!sd_bus_error_is_set(e)) {
                /* nobody listens on its socket any more, and yet it is there */
                if (sd_bus_message_read(reply, "s", &how) >= 0 && strcmp(how, "already-gone") == 0)
                        not_asked(run);
        } else if (report_code(e) == CODE_NO_SERVICE)
                service_lost(run, e);
        else {
                (void)report_call(ctl, e, 0, NULL);
                not_asked(run);
        }
}

static void vmm_shutdown(Run *run) {
        char grace[32];
        int r;

        span_format(grace_of(run), grace, sizeof(grace));
        if (grace_of(run) == USEC_FOREVER)
                report_note(run->ctl, _("%s is asked to shut down"), run->name);
        else if (run->insistent)
                report_note(run->ctl, _("%s is asked to shut down, and killed after %s"), run->name,
                            grace);
        else
                report_note(run->ctl,
                            _("%s is asked to shut down, and killed after %s; Ctrl-C kills it now"),
                            run->name, grace);
        r = call_shutdown(run);
        if (r < 0) {
                (void)report_call(run->ctl, NULL, r, NULL);
                not_asked(run);
        }
}

static int ready_build(Ctl *ctl, sd_bus_message *m, void *userdata) {
        const Run *run = userdata;

        return sd_bus_message_append(m, "ssa{sv}", run->target.path, "run", 0);
}

/* From now on whoever comes next sees a socket that answers. */
static void on_ready(Ctl *ctl, sd_bus_message *reply, const sd_bus_error *e, void *userdata) {
        Run *run = userdata;

        (void)flock(run->lock, LOCK_UN);
        run->ready = true;
        if (run->killed || has_ended(run))
                return;
        if (sd_bus_error_is_set(e))
                (void)report_call(ctl, e, 0, NULL);
        if (run->asked > 0)
                vmm_shutdown(run);
}

/* A shutdown takes one signal. What comes on top of it means more only if somebody says so twice: a
 * terminal that is closed sends SIGHUP twice, and a service manager SIGHUP after its SIGTERM. */
static int on_signal(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        int number = (int)si->ssi_signo;
        Run *run = userdata;

        if (run->asked > 0) {
                if (number == SIGINT || (number == SIGTERM && now_usec() - run->asked > USEC_PER_SEC))
                        vmm_kill(run);
                run->insistent |= number != SIGINT;
                return 0;
        }
        run->asked = now_usec();
        run->insistent = number != SIGINT;
        /* without a socket that answers, nobody could be asked; it is a matter of milliseconds */
        if (run->ready)
                vmm_shutdown(run);
        return 0;
}

static int on_end(sd_event_source *source, const siginfo_t *si, void *userdata) {
        Run *run = userdata;

        run->gone = true;
        run->cause = si->si_code;
        run->status = si->si_status;
        return 0;
}

static int on_keys(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Run *run = userdata;

        return console_pass(&run->console) ? 0 : sd_event_source_set_enabled(source, SD_EVENT_OFF);
}

static int follow_with(Run *run) {
        sd_event *event = run->event;
        Ctl *ctl = run->ctl;
        int r;

        r = sd_event_add_child(event, NULL, run->pid, WEXITED, on_end, run);
        for (size_t i = 0; i < ELEMENTS(enders) && r >= 0; i++)
                if (!is_ignored(enders[i]))
                        r = sd_event_add_signal(event, NULL, enders[i], on_signal, run);
        if (r >= 0 && run->console.keys >= 0)
                r = sd_event_add_io(event, NULL, STDIN_FILENO, EPOLLIN, on_keys, run);
        if (r >= 0)
                r = sd_bus_attach_event(ctl->bus, event, SD_EVENT_PRIORITY_NORMAL);
        run->f.on_owner = on_owner;
        if (r >= 0)
                r = follow_owner(ctl, &run->f);
        if (r >= 0)
                r = call_start(ctl, "EnsureSocketAccess", CALL_USUAL, ready_build, on_ready, run);
        /* sd_event_exit() would close the connection, which is needed once more */
        while (r >= 0 && !run->gone)
                r = sd_event_run(event, UINT64_MAX);
        run->deadline = sd_event_source_disable_unref(run->deadline);
        follow_end(&run->f);
        (void)sd_bus_detach_event(ctl->bus);
        return r;
}

int vmm_follow(Run *run) {
        int r;

        r = sd_event_new(&run->event);
        if (r >= 0)
                r = follow_with(run);
        if (r < 0) {
                vmm_kill(run);
                (void)report_failure(run->ctl, CODE_FAILED, SD_BUS_ERROR_FAILED,
                                     _("Cannot watch over %s, and killed it: %s"), run->name,
                                     strerror(-r));
        }
        run->event = sd_event_unref(run->event);
        /* not before it is gone do its socket and its taps look left behind */
        while (!run->gone && waitpid(run->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        console_close(&run->console);
        unblock_signals();
        return r < 0 ? CODE_FAILED : CODE_DONE;
}
