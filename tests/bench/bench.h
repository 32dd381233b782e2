/* SPDX-License-Identifier: MIT */
#pragma once

/* What the benches share: clocks, samples, the table, callers of any user, and the old way. A bench
 * asserts nothing; what it cannot do at all ends it with a message. Times are in milliseconds. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "link/netlink.h"

#define FCPROC "org.banger.FcProc", "/org/banger/FcProc"

/* --- samples and the table --- */

typedef struct Samples {
        double *ms;
        size_t n, size;
} Samples;

double now_ms(void);
void sleep_ms(double ms);
void samples_add(Samples *s, double ms);
/* q from 0 to 1; sorts them. */
double samples_at(Samples *s, double q);

typedef enum Goal {
        GOAL_NONE,
        GOAL_FASTER,  /* at least so many times as fast as what stands beside it */
        GOAL_AT_MOST, /* at most so many times what stands beside it */
} Goal;

void table_head(void);
void table_section(const char *title);
/* beside, the samples compared with, may be NULL. */
void table_row(const char *what, Samples *s, const char *beside_name, Samples *beside, Goal goal,
               double value);
/* A size, in bytes. */
void table_bytes(const char *what, double bytes, double goal);

/* --- who calls --- */

typedef struct Account {
        const char *name;
        uid_t uid;
        gid_t gid;
} Account;

typedef struct Bench {
        unsigned rounds;
        const char *vmm; /* a program that listens as Firecracker does */
        Account root, caller, other, service;
        sd_bus *as_root, *as_caller, *as_other, *as_service;
        Netlink *nl;
        pid_t service_pid;
} Bench;

void die(const char *what, int error) __attribute__((noreturn));
/* Errors are negative errnos. */
int must(int r, const char *what);

Account account_find(const char *name);
sd_bus *client_connect(const Account *account);
/* Times one call of the service; the reply, if asked for, is the caller's. */
double call_ms(sd_bus *bus, sd_bus_message **ret_reply, const char *method, const char *types, ...);
/* One that changes nothing: whatever the service still had to do is done after it. */
void settle(Bench *b);

/* Runs a command as that user and waits for it: fork, exec, exit. */
double run_ms(const Account *account, const char *const *argv);
/* A child of that user which is called "firecracker" and sleeps. */
pid_t fork_sleeper(const Account *account);

/* --- links --- */

/* What the service does on its worker for CreateTap, called directly. */
double bare_create_ms(Bench *b, const char *name);
/* All of these that are there, in one wait of the kernel's. */
void delete_links(Bench *b, const char *const *names, size_t n);

/* --- the benches --- */

void bench_create(Bench *b);
void bench_replace(Bench *b);
void bench_delete(Bench *b);
void bench_find(Bench *b);
void bench_exit(Bench *b);
void bench_beside_deletes(Bench *b);
double private_bytes(pid_t pid);
void bench_memory_of_watches(Bench *b);
