/* SPDX-License-Identifier: MIT */
#pragma once

/* One method for each of several objects: over one connection, side by side, with one line and one
 * status each, in the order given.
 *
 * With JSON the objects' results are one array; where a job is about a single thing, it is that
 * thing's object alone. A failure is an element {…, "error": {name, message}} of the array, and on
 * stderr as that of any verb. */

#include <json-c/json.h>

#include "connection.h"
#include "target.h"

typedef struct Task {
        const struct Job *job;
        Target target;
        const void *extra; /* the job's own */
        uint64_t begun;    /* when it was sent; 0: unknown, as somebody was asked for a password */
        bool done;

        /* of a job that is made again after a restart of the service */
        struct Again *again;
        uint32_t pid;   /* whom it is about, 0 if that was not to be had */
        uint64_t lost;  /* since when it waits for the service to be back, 0: it does not */
        bool lost_once; /* the service it was first made to is gone */

        int code;
        char *line;  /* for people; NULL: nothing to say */
        bool note;   /* the line is a remark, not a result */
        bool answer; /* the line is what was asked for, and is told in spite of -q */
        json_object *json;
        sd_bus_error error;
} Task;

typedef struct Job {
        const char *method;
        const char *key;   /* what the object is called in JSON; NULL: there is none */
        bool single;       /* an object, not an array of them */
        uint64_t timeout;  /* of the call; 0: CALL_USUAL */
        const char *doing; /* "Waiting for the socket", where that may take long */
        /* Tells with output_status() how far it has come, instead of that: finished of n are done,
         * and task is the first that is not. */
        void (*show)(const Ctl *ctl, const Task *task, size_t finished, size_t n);
        int (*build)(Ctl *ctl, sd_bus_message *m, Task *task); /* may be NULL */
        /* Reads the reply, says it with task_say() and adds it to the JSON; a negative errno. */
        int (*take)(Ctl *ctl, sd_bus_message *reply, Task *task); /* may be NULL */
        /* True for an error that means there is nothing to do; it has been said then. */
        bool (*excuse)(Ctl *ctl, const sd_bus_error *e, Task *task); /* may be NULL */
        /* Where it is set the service keeps the call in its memory alone, so that it is made again
         * after a restart (again.h). Says and adds that the process has ended meanwhile. */
        void (*gone)(Ctl *ctl, Task *task); /* may be NULL */
} Job;

void task_say(Task *task, const char *format, ...) _printf_(2, 3);
void task_add_string(Task *task, const char *key, const char *value);
void task_add_number(Task *task, const char *key, int64_t value);
void task_add_bool(Task *task, const char *key, bool value);

/* For again.c: makes the call; ends the task with the error, or where there is none with the errno. */
int task_call(Ctl *ctl, Task *task);
void task_fail(Task *task, const sd_bus_error *e, int r);

/* Targets are taken over. Returns the exit code: the first failure's. */
int batch_run(Ctl *ctl, const Job *job, Target *targets, size_t n, const void *extra);
/* Parses and locates the arguments as sockets (or pids), then runs the job. */
int batch_run_targets(Ctl *ctl, const Job *job, int n, char *arguments[], bool pid_allowed,
                      const void *extra);
/* The same without targets that have to be understood: names of taps, or none at all. */
int batch_run_names(Ctl *ctl, const Job *job, int n, char *arguments[], const void *extra);
