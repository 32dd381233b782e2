/* SPDX-License-Identifier: MIT */
#pragma once

/* A process as the service knows it: a pid together with the pidfd that keeps it from meaning
 * another one. One Process per living process, shared by reference; its end is seen once, here. */

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/kernel.h"
#include "common/failure.h"

typedef struct Process Process;
typedef struct ProcessTable ProcessTable;

typedef enum ExitCause {
        EXIT_CAUSE_UNKNOWN,
        EXIT_CAUSE_EXITED,
        EXIT_CAUSE_SIGNALED,
        EXIT_CAUSE_DUMPED
} ExitCause;

typedef struct ProcessExit {
        ExitCause cause;
        int status;           /* exit code or signal number; -1 with UNKNOWN */
        const char *why;      /* it is UNKNOWN, a constant; "" where it is not */
        uint64_t at_realtime; /* µs, CLOCK_REALTIME: when it was seen */
} ProcessExit;

extern const ProcessExit process_exit_unknown; /* gone before anybody looked */
/* "exited 0", "unknown (why)": for the log. */
void process_exit_describe(const ProcessExit *exit, char *ret, size_t size);
const char *exit_cause_name(ExitCause cause);

/* Somebody who wants to know when a process ends; embedded, first. on_exit takes itself off. */
typedef struct Watch {
        void (*on_exit)(struct Watch *watch);
        Process *process;
        LIST_ENTRY(Watch) in_process;
} Watch;

struct KnownSocket;

struct Process {
        ProcessTable *table;
        unsigned refs;
        pid_t pid;
        int pidfd;
        uint64_t pidfd_inode; /* 0 where the kernel has no unique ones */
        uid_t uid;            /* as last read; UID_NONE where the four differ */
        bool exited;
        ProcessExit exit;
        sd_event_source *exit_source, *reap_deadline;
        unsigned long listed_in; /* known-socket.c: the round that it was last listed in */
        LIST_HEAD(, Watch) watches;
        LIST_HEAD(, KnownSocket) sockets;
        LIST_ENTRY(Process) in_bucket;
};

typedef void (*ProcessExitedFunction)(Process *process, void *userdata);

/* on_exit is called from the event loop, once per process, while it is referenced. */
int process_table_new(sd_event *event, const Features *features, ProcessExitedFunction on_exit,
                      void *userdata, ProcessTable **ret);
void process_table_free(ProcessTable *table);

/* The process pid, pinned. pidfd is taken over where it is >= 0, else one is opened.
 * -FAILURE_NO_SUCH_PROCESS: it is gone, a zombie, or no process (a thread). The uid is fresh. */
int process_pin(ProcessTable *table, pid_t pid, int pidfd, Process **ret, Failure *f);
Process *process_ref(Process *process);
Process *process_unref(Process *process);
static inline void process_unrefp(Process **process) {
        process_unref(*process);
}

/* Its uid if all four are one, else UID_NONE, read while it was alive (PIDFD_GET_INFO, or
 * /proc/PID/status and a look at the pidfd afterwards). -ESRCH when it was not alive,
 * another negative errno when that could not be told. */
int process_read_uid(Process *process, uid_t *ret);

/* The same for a pid and its pidfd that are in no table. */
int process_uid_of(pid_t pid, int pidfd, uid_t *ret);

/* Whether comm is the first 15 bytes of the base name of binary (proc(5), /proc/PID/comm). */
bool process_runs(Process *process, const char *binary);

/* When it started, in µs of CLOCK_REALTIME to within 10 ms; 0 where it cannot be told. */
uint64_t process_started_realtime(pid_t pid);

/* Whether the pidfd says that it has ended. */
bool process_is_gone(int pidfd);

/* References the process; a Watch must be removed before it is freed. */
void process_add_watch(Process *process, Watch *watch, void (*on_exit)(Watch *watch));
void process_remove_watch(Watch *watch);

/* -FAILURE_NO_SUCH_PROCESS where it was gone already. */
int process_kill(Process *process, Failure *f);
