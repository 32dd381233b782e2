/* SPDX-License-Identifier: MIT */
/* Processes: found, waited for, and what a watch costs. */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define CROWD 1000

/* --- FindPID --- */

void bench_find(Bench *b) {
        pid_t *crowd = calloc(CROWD, sizeof(*crowd));
        Samples find = {}, root = {}, pgrep = {};
        char sock[64];

        if (!crowd)
                die("a crowd", -ENOMEM);
        (void)snprintf(sock, sizeof(sock), "/run/banger/%u/bench.sock", b->other.uid);
        for (unsigned i = 0; i < CROWD; i++)
                crowd[i] = fork_sleeper(&b->caller);
        for (unsigned i = 0; i < b->rounds + 10; i++) {
                const char *const old[] = {"pgrep", "-n", "-f", sock, NULL};
                double t[3];

                t[0] = call_ms(b->as_other, NULL, "FindPID", "s", sock);
                t[1] = call_ms(b->as_root, NULL, "FindPID", "s", sock);
                t[2] = run_ms(&b->other, old);
                if (i < 10)
                        continue;
                samples_add(&find, t[0]);
                samples_add(&root, t[1]);
                samples_add(&pgrep, t[2]);
        }
        for (unsigned i = 0; i < CROWD; i++) {
                (void)kill(crowd[i], SIGKILL);
                (void)waitpid(crowd[i], NULL, 0);
        }
        free(crowd);
        table_section("Finding the process behind a socket, among 1,000");
        table_row("FindPID, user", &find, "pgrep -n -f", &pgrep, GOAL_FASTER, 18);
        table_row("FindPID, root, no polkit", &root, "pgrep -n -f", &pgrep, GOAL_FASTER, 0);
}

/* --- exits --- */

typedef struct Exit {
        pid_t pid;
        int pidfd;
        double ended, noticed;
} Exit;

/* The parent: its pidfd says when the process has ended; it reaps. */
static void *parent_main(void *userdata) {
        Exit *e = userdata;
        struct pollfd p = {.fd = e->pidfd, .events = POLLIN};

        (void)poll(&p, 1, -1);
        e->ended = now_ms();
        (void)waitpid(e->pid, NULL, 0);
        return NULL;
}

/* The old way. */
static void *poller_main(void *userdata) {
        Exit *e = userdata;

        while (kill(e->pid, 0) == 0)
                sleep_ms(100);
        e->noticed = now_ms();
        return NULL;
}

static int on_exited(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        double *at = userdata;

        *at = now_ms();
        return 0;
}

static double cold_ping_ms(Bench *b) {
        double start = now_ms();

        must(sd_bus_call_method(b->as_caller, FCPROC, "org.freedesktop.DBus.Peer", "Ping", NULL,
                                NULL, NULL),
             "Ping");
        return now_ms() - start;
}

void bench_exit(Bench *b) {
        Samples told = {}, polled = {}, told_after_kill = {}, polled_after_kill = {}, ping = {};
        sd_bus_slot *slot;
        double seen;

        must(sd_bus_match_signal(b->as_caller, &slot, "org.banger.FcProc", NULL,
                                 "org.banger.FcProc", "ProcessExited", on_exited, &seen),
             "a match");
        for (unsigned i = 0; i < b->rounds + 5; i++) {
                pthread_t parent, poller;
                double killed, cold;
                Exit e = {};

                e.pid = fork_sleeper(&b->caller);
                e.pidfd = must(pidfd_open(e.pid, 0), "pidfd_open");
                call_ms(b->as_caller, NULL, "WatchExit", "usta{sv}", (uint32_t)e.pid, "",
                        UINT64_MAX, 0);
                if (pthread_create(&parent, NULL, parent_main, &e) != 0 ||
                    pthread_create(&poller, NULL, poller_main, &e) != 0)
                        die("threads", -EAGAIN);
                sleep_ms(30);
                cold = cold_ping_ms(b);
                sleep_ms(20 + (double)random() / RAND_MAX * 100); /* any moment of the poll's period */
                seen = 0;
                killed = now_ms();
                (void)kill(e.pid, SIGKILL);
                while (seen == 0)
                        if (must(sd_bus_process(b->as_caller, NULL), "the bus") == 0)
                                must(sd_bus_wait(b->as_caller, UINT64_MAX), "the bus");
                (void)pthread_join(parent, NULL);
                (void)pthread_join(poller, NULL);
                (void)close(e.pidfd);
                if (i < 5)
                        continue;
                samples_add(&told, seen - e.ended);
                samples_add(&polled, e.noticed - e.ended);
                samples_add(&told_after_kill, seen - killed);
                samples_add(&polled_after_kill, e.noticed - killed);
                samples_add(&ping, cold);
        }
        sd_bus_slot_unref(slot);
        table_section("An exit");
        table_row("ProcessExited, after the process's end", &told, "a poll each 100 ms", &polled,
                  GOAL_FASTER, 200);
        table_row("… after the kill(2) that ended it", &told_after_kill, "a poll each 100 ms",
                  &polled_after_kill, GOAL_FASTER, 0);
        table_row("ProcessExited, after the process's end", &told, "a bus round trip, cold", &ping,
                  GOAL_NONE, 0);
}

/* --- memory --- */

double private_bytes(pid_t pid) {
        char path[64], line[256];
        double sum = 0;
        long kib;
        FILE *f;

        (void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
        f = fopen(path, "re");
        if (!f)
                die(path, -errno);
        while (fgets(line, sizeof(line), f))
                if (sscanf(line, "Private_Clean: %ld kB", &kib) == 1 ||
                    sscanf(line, "Private_Dirty: %ld kB", &kib) == 1)
                        sum += (double)kib * 1024;
        (void)fclose(f);
        return sum;
}

void bench_memory_of_watches(Bench *b) {
        pid_t *crowd = calloc(CROWD, sizeof(*crowd));
        sd_bus *bus = client_connect(&b->caller);
        double before;

        if (!crowd)
                die("a crowd", -ENOMEM);
        for (unsigned i = 0; i < CROWD; i++)
                crowd[i] = fork_sleeper(&b->caller);
        call_ms(bus, NULL, "WatchExit", "usta{sv}", (uint32_t)crowd[0], "", UINT64_MAX, 0);
        before = private_bytes(b->service_pid);
        for (unsigned i = 0; i < CROWD; i++)
                call_ms(bus, NULL, "WatchExit", "usta{sv}", (uint32_t)crowd[i], "", UINT64_MAX, 0);
        table_bytes("a watch (1,000 WatchExit on 1,000)",
                    (private_bytes(b->service_pid) - before) / CROWD, 1024);
        for (unsigned i = 0; i < CROWD; i++) {
                (void)kill(crowd[i], SIGKILL);
                (void)waitpid(crowd[i], NULL, 0);
        }
        free(crowd);
        sd_bus_flush_close_unref(bus);
}
