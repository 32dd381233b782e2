/* SPDX-License-Identifier: MIT */
/* Processes: identity, owner, end.
 *
 * A pid alone is a number that somebody else may carry by the time it is used. Everything here
 * is read through or checked against a pidfd: a living pidfd's pid is still the same process.
 * How a process ended is told to a non-parent by PIDFD_GET_INFO (Linux 6.15), but only once it has
 * been reaped: POLLIN says "ended", EPOLLHUP "reaped" (6.9), and between the two the status may be
 * missing; it is waited for at most 100 ms. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/loop.h"
#include "vm/process.h"

#define BUCKETS 1024
#define REAP_PATIENCE_USEC (100 * USEC_PER_MSEC)

struct ProcessTable {
        sd_event *event;
        const Features *features;
        ProcessExitedFunction on_exit;
        void *userdata;
        LIST_HEAD(, Process) buckets[BUCKETS];
};

static ProcessExit unknown(const char *why) {
        return (ProcessExit){.cause = EXIT_CAUSE_UNKNOWN, .status = -1, .why = why};
}

const ProcessExit process_exit_unknown = {.cause = EXIT_CAUSE_UNKNOWN,
                                          .status = -1,
                                          .why = "it had ended before anybody looked"};

void process_exit_describe(const ProcessExit *exit, char *ret, size_t size) {
        if (exit->cause == EXIT_CAUSE_UNKNOWN)
                (void)snprintf(ret, size, "unknown (%s)", exit->why);
        else
                (void)snprintf(ret, size, "%s %d", exit_cause_name(exit->cause), exit->status);
}

const char *exit_cause_name(ExitCause cause) {
        static const char *const names[] = {
                [EXIT_CAUSE_UNKNOWN] = "unknown",
                [EXIT_CAUSE_EXITED] = "exited",
                [EXIT_CAUSE_SIGNALED] = "signaled",
                [EXIT_CAUSE_DUMPED] = "dumped",
        };
        return names[cause];
}

int process_table_new(sd_event *event, const Features *features, ProcessExitedFunction on_exit,
                      void *userdata, ProcessTable **ret) {
        ProcessTable *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        t->event = sd_event_ref(event);
        t->features = features;
        t->on_exit = on_exit;
        t->userdata = userdata;
        *ret = t;
        return 0;
}

void process_table_free(ProcessTable *table) {
        if (!table)
                return;
        sd_event_unref(table->event);
        free(table);
}

bool process_is_gone(int pidfd) {
        struct pollfd p = {.fd = pidfd, .events = POLLIN};

        return poll(&p, 1, 0) > 0 && p.revents != 0;
}

static uint64_t realtime_now(void) {
        struct timespec ts;

        (void)clock_gettime(CLOCK_REALTIME, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

static void process_finish(Process *p, const ProcessExit *how) {
        p->exit_source = sd_event_source_disable_unref(p->exit_source);
        p->reap_deadline = sd_event_source_disable_unref(p->reap_deadline);
        if (p->exited)
                return;
        p->exited = true;
        p->exit.cause = how->cause;
        p->exit.status = how->status;
        p->exit.why = how->why;
        LIST_REMOVE(p, in_bucket);

        process_ref(p);
        p->table->on_exit(p, p->table->userdata);
        process_unref(p);
}

/* True when the kernel has told how it ended. */
static bool read_exit(Process *p) {
        ProcessExit how = {.why = ""};
        PidfdInfo info;

        if (kernel.pidfd_info(p->pidfd, &info) < 0 || !info.has_exit)
                return false;
        if (WIFEXITED(info.wait_status)) {
                how.cause = EXIT_CAUSE_EXITED;
                how.status = WEXITSTATUS(info.wait_status);
        } else {
                how.cause = WCOREDUMP(info.wait_status) ? EXIT_CAUSE_DUMPED : EXIT_CAUSE_SIGNALED;
                how.status = WTERMSIG(info.wait_status);
        }
        process_finish(p, &how);
        return true;
}

static int on_reap_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        Process *p = userdata;

        ProcessExit how = unknown("its parent did not wait for it within 100 ms");

        if (!read_exit(p))
                process_finish(p, &how);
        return 0;
}

static int on_pidfd(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Process *p = userdata;
        ProcessExit how = unknown(p->table->features->exit_status ? "the kernel does not tell how"
                                                                  : "this kernel cannot tell");

        if (p->exit.at_realtime == 0)
                p->exit.at_realtime = realtime_now();
        if (p->table->features->exit_status) {
                if (read_exit(p))
                        return 0;
                /* Not reaped yet: HUP will come, and level-triggered POLLIN must not spin. */
                if (!(revents & EPOLLHUP) && !p->reap_deadline &&
                    sd_event_source_set_io_events(source, 0) >= 0 &&
                    loop_add_timer(p->table->event, &p->reap_deadline, REAP_PATIENCE_USEC,
                                   on_reap_deadline, p) >= 0)
                        return 0;
        }
        process_finish(p, &how);
        return 0;
}

Process *process_ref(Process *process) {
        process->refs++;
        return process;
}

Process *process_unref(Process *process) {
        if (!process || --process->refs > 0)
                return NULL;
        if (!process->exited)
                LIST_REMOVE(process, in_bucket);
        sd_event_source_disable_unref(process->exit_source);
        sd_event_source_disable_unref(process->reap_deadline);
        (void)close_fd(process->pidfd);
        free(process);
        return NULL;
}

static int read_proc_file(pid_t pid, const char *name, char *buffer, size_t size) {
        _cleanup_close_ int fd = -1;
        char path[64];
        ssize_t n;

        (void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return -errno;
        n = read(fd, buffer, size - 1);
        if (n < 0)
                return -errno;
        buffer[n] = '\0';
        return 0;
}

static int read_uid_from_proc(pid_t pid, uid_t *ret) {
        unsigned real, effective, saved, fs;
        char buffer[4096], *line;
        int r = read_proc_file(pid, "status", buffer, sizeof(buffer));

        if (r < 0)
                return r == -ENOENT ? -ESRCH : r;
        line = strstr(buffer, "\nUid:"); /* comm, which comes before, shows newlines as \n */
        if (!line || sscanf(line, "\nUid: %u %u %u %u", &real, &effective, &saved, &fs) != 4)
                return -ESRCH;
        *ret = real == effective && effective == saved && saved == fs ? real : UID_NONE;
        return 0;
}

int process_uid_of(pid_t pid, int pidfd, uid_t *ret) {
        PidfdInfo info;
        uid_t uid;
        int r;

        r = kernel.pidfd_info(pidfd, &info);
        if (r >= 0 && info.has_uids)
                uid = info.uids_agree ? info.uid : UID_NONE;
        else {
                r = read_uid_from_proc(pid, &uid);
                if (r < 0)
                        return r;
        }
        if (process_is_gone(pidfd))
                return -ESRCH;
        *ret = uid;
        return 0;
}

int process_read_uid(Process *p, uid_t *ret) {
        int r = p->exited ? -ESRCH : process_uid_of(p->pid, p->pidfd, &p->uid);

        if (r < 0)
                return r;
        *ret = p->uid;
        return 0;
}

bool process_runs(Process *p, const char *binary) {
        const char *slash = strrchr(binary, '/'), *name = slash ? slash + 1 : binary;
        char comm[64], expected[16];

        if (p->exited || !*name || read_proc_file(p->pid, "comm", comm, sizeof(comm)) < 0)
                return false;
        comm[strcspn(comm, "\n")] = '\0';
        (void)snprintf(expected, sizeof(expected), "%.15s", name);
        return strcmp(comm, expected) == 0 && !process_is_gone(p->pidfd);
}

uint64_t process_started_realtime(pid_t pid) {
        struct timespec boot, real;
        unsigned long long ticks;
        char buffer[1024], *p;
        uint64_t since_boot;

        if (read_proc_file(pid, "stat", buffer, sizeof(buffer)) < 0)
                return 0;
        p = strrchr(buffer, ')'); /* comm may hold anything, ')' too; field 22 is starttime */
        for (int field = 2; p && field < 22; field++)
                p = strchr(p + 1, ' ');
        if (!p || sscanf(p, "%llu", &ticks) != 1)
                return 0;
        (void)clock_gettime(CLOCK_BOOTTIME, &boot);
        (void)clock_gettime(CLOCK_REALTIME, &real);
        since_boot = ticks * USEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK);
        return (uint64_t)(real.tv_sec - boot.tv_sec) * USEC_PER_SEC +
               (uint64_t)((real.tv_nsec - boot.tv_nsec) / 1000) + since_boot;
}

void process_add_watch(Process *process, Watch *watch, void (*on_exit)(Watch *watch)) {
        watch->on_exit = on_exit;
        watch->process = process_ref(process);
        LIST_INSERT_HEAD(&process->watches, watch, in_process);
}

void process_remove_watch(Watch *watch) {
        if (!watch->process)
                return;
        LIST_REMOVE(watch, in_process);
        watch->process = process_unref(watch->process);
}

static int gone(Failure *f, pid_t pid) {
        return failure_set(f, FAILURE_NO_SUCH_PROCESS, "There is no process %d (any more)", pid);
}

int process_pin(ProcessTable *table, pid_t pid, int pidfd, Process **ret, Failure *f) {
        _cleanup_(process_unrefp) Process *p = NULL;
        _cleanup_close_ int fd = pidfd;
        struct stat st;
        uid_t uid;
        int r;

        LIST_FOREACH(p, &table->buckets[(unsigned)pid % BUCKETS], in_bucket)
                if (p->pid == pid)
                        break;
        /* While the pidfd that we hold is not readable nobody else can have this pid. One that is
         * readable leaves the table now; its end is told as soon as the loop gets to it. */
        if (p && !p->exited && !process_is_gone(p->pidfd)) {
                process_ref(p);
        } else {
                p = NULL;
                if (fd < 0) {
                        fd = kernel.pidfd_open(pid);
                        if (fd == -ESRCH || fd == -EINVAL ||
                            fd == -ENOENT) /* the latter two: a thread's id */
                                return gone(f, pid);
                        if (fd < 0) /* a living process must never be called gone */
                                return failure_kernel(f, fd, NULL, "Opening process %d", pid);
                }
                if (process_is_gone(fd))
                        return gone(f, pid);
                p = calloc(1, sizeof(*p));
                if (!p)
                        return failure_oom(f);
                *p = (Process){.table = table,
                               .refs = 1,
                               .pid = pid,
                               .pidfd = TAKE_FD(fd),
                               .uid = UID_NONE};
                LIST_INIT(&p->watches);
                LIST_INIT(&p->sockets);
                LIST_INSERT_HEAD(&table->buckets[(unsigned)pid % BUCKETS], p, in_bucket);
                if (table->features->pidfd_inode && fstat(p->pidfd, &st) == 0)
                        p->pidfd_inode = st.st_ino;
                r = sd_event_add_io(table->event, &p->exit_source, p->pidfd, EPOLLIN, on_pidfd, p);
                if (r >= 0)
                        r = sd_event_source_set_priority(p->exit_source, PRIORITY_OWED);
                if (r < 0)
                        return failure_kernel(f, r, NULL, "Watching process %d", pid);
        }
        r = process_read_uid(p, &uid);
        if (r == -ESRCH)
                return gone(f, pid);
        if (r < 0)
                return failure_kernel(f, r, NULL, "Reading whose process %d is", pid);
        *ret = TAKE_PTR(p);
        return 0;
}

int process_kill(Process *p, Failure *f) {
        int r = p->exited ? -ESRCH : kernel.pidfd_send_signal(p->pidfd, SIGKILL);

        if (r == -ESRCH)
                return gone(f, p->pid);
        if (r < 0)
                return failure_kernel(f, r, NULL, "Sending SIGKILL to process %d", p->pid);
        return 0;
}
