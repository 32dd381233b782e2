/* SPDX-License-Identifier: MIT */
/* FcProc's bench: what an ordinary user pays for a call, beside what the same work cost before, in
 * one run. tools/bench prepares everything; see there. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

/* A VMM of the other user's, as a VMM is started: its socket is in its command line. */
static pid_t start_vmm(const Bench *b) {
        char sock[64];
        pid_t pid;

        (void)snprintf(sock, sizeof(sock), "/run/banger/%u/bench.sock", b->other.uid);
        pid = fork();
        if (pid < 0)
                die("forking", -errno);
        if (pid == 0) {
                if (setresgid(b->other.gid, b->other.gid, b->other.gid) < 0 ||
                    setresuid(b->other.uid, b->other.uid, b->other.uid) < 0 ||
                    !freopen("/dev/null", "w", stdout))
                        _exit(126);
                (void)execl(b->vmm, "firecracker", "--api-sock", sock, "--id", "bench", NULL);
                _exit(127);
        }
        for (int i = 0; i < 500; i++) {
                if (sd_bus_call_method(b->as_other, FCPROC, "org.banger.FcProc", "FindPID", NULL,
                                       NULL, "s", sock) >= 0)
                        return pid;
                sleep_ms(10);
        }
        die("the VMM does not listen", 0);
}

static pid_t find_service(sd_bus *bus) {
        sd_bus_message *reply;
        uint32_t pid;

        must(sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                "org.freedesktop.DBus", "GetConnectionUnixProcessID", NULL, &reply,
                                "s", "org.banger.FcProc"),
             "looking for the service");
        must(sd_bus_message_read(reply, "u", &pid), "the service's pid");
        sd_bus_message_unref(reply);
        return (pid_t)pid;
}

int main(int argc, char *argv[]) {
        static const struct {
                const char *name;
                void (*run)(Bench *b);
        } benches[] = {
                {"create", bench_create}, {"replace", bench_replace},
                {"delete", bench_delete}, {"find", bench_find},
                {"exit", bench_exit},     {"beside", bench_beside_deletes},
        };
        struct utsname host;
        double load = 0;
        Bench b = {};
        pid_t vmm;

        if (argc < 5) {
                (void)fprintf(stderr, "usage: bench ROUNDS VMM CALLER OTHER [BENCH…]\n");
                return 2;
        }
        b.rounds = (unsigned)strtoul(argv[1], NULL, 10);
        b.vmm = argv[2];
        b.root = account_find("root");
        b.caller = account_find(argv[3]);
        b.other = account_find(argv[4]);
        b.service = account_find("fcproc");
        b.as_root = client_connect(&b.root);
        b.service_pid = find_service(b.as_root);
        (void)uname(&host);
        (void)getloadavg(&load, 1);
        (void)printf("fcprocd " FCPROC_VERSION
                     ", Linux %s, %ld CPUs, load %.1f at the start; %u rounds; %s calls\n\n",
                     host.release, sysconf(_SC_NPROCESSORS_ONLN), load, b.rounds, b.caller.name);
        (void)fflush(stdout);

        double idle = private_bytes(b.service_pid);

        b.as_caller = client_connect(&b.caller);
        b.as_other = client_connect(&b.other);
        b.as_service = client_connect(&b.service);
        must(netlink_open(&b.nl), "netlink");
        call_ms(b.as_root, NULL, "EnsureBridge", "a{sv}", 0);
        call_ms(b.as_other, NULL, "EnsureSocketDir", "a{sv}", 0);
        vmm = start_vmm(&b);

        table_head();
        for (size_t i = 0; i < sizeof(benches) / sizeof(*benches); i++) {
                bool wanted = argc == 5;

                for (int k = 5; k < argc; k++)
                        wanted = wanted || strcmp(argv[k], benches[i].name) == 0;
                if (wanted)
                        benches[i].run(&b);
        }
        table_section("Private memory of the service");
        table_bytes("idle, before the first call", idle, 3 * 1024 * 1024);
        table_bytes("idle, after all of this", private_bytes(b.service_pid), 3 * 1024 * 1024);
        bench_memory_of_watches(&b);
        /* asks the VMM, by HTTP: the library for it is loaded at the first request */
        call_ms(b.as_root, NULL, "ListProcesses", "");
        table_bytes("idle, after a first request to a VMM", private_bytes(b.service_pid),
                    3 * 1024 * 1024);

        (void)getloadavg(&load, 1);
        (void)printf("\nload %.1f at the end\n", load);
        (void)kill(vmm, SIGKILL);
        (void)waitpid(vmm, NULL, 0);
        return 0;
}
