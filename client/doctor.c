/* SPDX-License-Identifier: MIT */
/* doctor: what this host needs for microVMs, and what the caller needs to start them.
 *
 * A check is a function that looks at one thing and says ok, warn or fail; with the last two it
 * says what to do next. "fail" is for what keeps VMs from running, "warn" for what makes them slow,
 * leaky or less apart than they could be. All of it is about this host, so it is not for -H. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "connection.h"
#include "doctor.h"
#include "i18n.h"
#include "output.h"
#include "report.h"

#define PORTS_MAX 1023

void say(Doctor *d, const char *format, ...) {
        va_list args;

        va_start(args, format);
        (void)vsnprintf(d->text, sizeof(d->text), format, args);
        va_end(args);
}

void next(Doctor *d, const char *format, ...) {
        va_list args;

        va_start(args, format);
        (void)vsnprintf(d->next, sizeof(d->next), format, args);
        va_end(args);
}

bool read_line(const char *path, char *ret, size_t size) {
        FILE *f = fopen(path, "re");
        bool read;

        if (!f)
                return false;
        read = fgets(ret, (int)size, f) != NULL;
        (void)fclose(f);
        if (read)
                ret[strcspn(ret, "\n")] = '\0';
        return read;
}

/* It belongs to a group, mostly kvm, whose members may open it; but not to root's. */
static void next_for_kvm(Doctor *d) {
        const struct group *group = NULL;
        struct stat st;

        if (stat("/dev/kvm", &st) == 0 && st.st_gid != 0 && (st.st_mode & 0060) == 0060)
                group = getgrgid(st.st_gid);
        if (group)
                next(d, _("sudo usermod --append --groups %s \"$USER\", and log in again"),
                     group->gr_name);
        else
                next(d,
                     _("Give it to a group of yours: sudo chgrp kvm /dev/kvm && sudo chmod 0660 /dev/kvm"));
}

static Result check_kvm(Doctor *d) {
        _cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = -1;

        if (fd < 0 && errno == ENOENT) {
                say(d, _("/dev/kvm is not there"));
                next(d,
                     _("Enable virtualization in the firmware (or nested virtualization of this VM), and load kvm_intel or kvm_amd"));
                return RESULT_FAIL;
        }
        if (fd < 0 && errno == EACCES) {
                say(d, _("/dev/kvm is not yours to open"));
                next_for_kvm(d);
                return RESULT_FAIL;
        }
        if (fd < 0) {
                say(d, _("/dev/kvm cannot be opened: %m"));
                next(d, _("Load kvm_intel or kvm_amd, and see the kernel's log for 'kvm'"));
                return RESULT_FAIL;
        }
        vm = ioctl(fd, KVM_CREATE_VM, 0);
        if (vm < 0) {
                say(d, _("KVM makes no VM: %m"));
                next(d, _("See the kernel's log for 'kvm'"));
                return RESULT_FAIL;
        }
        say(d, _("/dev/kvm makes VMs"));
        return RESULT_OK;
}

static Result check_tun(Doctor *d) {
        _cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        int reason;

        if (fd >= 0) {
                say(d, _("/dev/net/tun can be opened"));
                return RESULT_OK;
        }
        reason = errno;
        say(d, _("/dev/net/tun cannot be opened: %m"));
        next(d, "%s",
             reason == EACCES ? _("Make it 0666, as it usually is: who may attach is said tap by tap")
                              : _("Load the module: modprobe tun"));
        return RESULT_FAIL;
}

static Result check_service(Doctor *d) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *version = NULL;
        int r = d->ctl->bus ? sd_bus_get_property_string(d->ctl->bus, FCPROC_NAME, FCPROC_PATH,
                                                         FCPROC_NAME, "Version", &e, &version)
                            : -ENOTCONN;

        if (r >= 0)
                r = sd_bus_get_property_string(d->ctl->bus, FCPROC_NAME, FCPROC_PATH, FCPROC_NAME,
                                               "BridgeName", &e, &d->bridge);
        d->service = r >= 0;
        if (d->service) {
                say(d, _("The service answers, version %s"), version);
                return RESULT_OK;
        }
        say(d, "%s",
            d->ctl->bus ? _("The service does not answer") : _("The system bus cannot be reached"));
        next(d, _("See 'systemctl status %s'"), d->ctl->bus ? "fcproc" : "dbus");
        return RESULT_FAIL;
}

static Result check_polkit(Doctor *d) {
        sd_bus_message *reply = NULL;
        int r = d->ctl->bus
                        ? sd_bus_call_method(d->ctl->bus, "org.freedesktop.PolicyKit1",
                                             "/org/freedesktop/PolicyKit1/Authority",
                                             "org.freedesktop.DBus.Peer", "Ping", NULL, &reply, "")
                        : -ENOTCONN;

        sd_bus_message_unref(reply);
        if (r >= 0) {
                say(d, _("polkit answers"));
                return RESULT_OK;
        }
        if (!d->ctl->bus) {
                say(d, _("polkit cannot be reached without the system bus"));
                next(d, _("See the line above"));
                return RESULT_FAIL;
        }
        say(d, _("polkit does not answer: only root may do anything"));
        next(d, _("Install polkitd, or see 'systemctl status polkit'"));
        return RESULT_FAIL;
}

static Result check_group(Doctor *d) {
        const struct group *group = getgrnam("banger");
        gid_t groups[1024];
        int n = getgroups((int)ELEMENTS(groups), groups);
        bool member = group && getegid() == group->gr_gid;

        for (int i = 0; group && i < n; i++)
                member |= groups[i] == group->gr_gid;
        if (geteuid() == 0) {
                say(d, _("You are root, who is not asked for a password"));
                return RESULT_OK;
        }
        if (member) {
                say(d, _("You are in the group banger, and are not asked for a password"));
                return RESULT_OK;
        }
        say(d,
            _("You are not in the group banger: taps and the bridge need an administrator's password"));
        next(d, "%s",
             group ? _("sudo usermod --append --groups banger \"$USER\", and log in again")
                   : _("sudo systemd-sysusers, then add yourself to the group banger"));
        return RESULT_WARN;
}

static Result check_firecracker(Doctor *d) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        const char *path;
        int r;

        if (!d->service) {
                say(d, _("Only the service knows which firecracker is configured"));
                next(d, _("Get the service running first"));
                return RESULT_WARN;
        }
        r = sd_bus_call_method(d->ctl->bus, FCPROC_NAME, FCPROC_PATH, FCPROC_NAME, "ResolveBinary",
                               &e, &reply, "");
        if (r >= 0)
                r = sd_bus_message_read(reply, "s", &path);
        if (r >= 0) {
                d->firecracker = strdup(path);
                say(d, "%.200s", path);
        } else {
                say(d, "%.250s", e.message ?: _("firecracker was not found"));
                next(d, _("Install firecracker, or set firecracker_bin in fcproc.conf"));
        }
        sd_bus_message_unref(reply);
        return r < 0 ? RESULT_FAIL : RESULT_OK;
}

bool read_output(const char *const argv[], char *ret, size_t size) {
        size_t length = 0;
        struct pollfd p = {.events = POLLIN};
        int fds[2];
        ssize_t n = 1;
        pid_t child;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return false;
        child = fork();
        if (child == 0) {
                (void)dup2(fds[1], STDOUT_FILENO);
                (void)dup2(fds[1], STDERR_FILENO);
                (void)execv(argv[0], (char **)argv);
                _exit(127);
        }
        (void)close(fds[1]);
        p.fd = fds[0];
        while (child > 0 && n > 0 && length < size - 1 && poll(&p, 1, 2000) > 0) {
                n = read(fds[0], ret + length, size - 1 - length);
                length += n > 0 ? (size_t)n : 0;
        }
        (void)close(fds[0]);
        if (child > 0) {
                (void)kill(child, SIGKILL);
                (void)waitpid(child, NULL, 0);
        }
        ret[length] = '\0';
        return length > 0;
}

static Result check_version(Doctor *d) {
        char text[256];

        if (!d->firecracker) {
                say(d, _("There is no firecracker to ask for its version"));
                next(d, _("See the line above"));
                return RESULT_WARN;
        }
        if (read_output((const char *[]){d->firecracker, "--version", NULL}, text, sizeof(text))) {
                text[strcspn(text, "\n")] = '\0';
                say(d, "%.200s", text);
                return RESULT_OK;
        }
        say(d, _("%.200s does not tell its version"), d->firecracker);
        next(d, _("Run it by hand with --version; it must be executable for you"));
        return RESULT_FAIL;
}

/* False only if it is certain: neither is the module there, nor is it one that could be loaded. */
static bool kernel_may_have_bridges(void) {
        bool known = false;
        struct utsname name;

        if (access("/sys/module/bridge", F_OK) == 0 || uname(&name) < 0)
                return true;
        for (int i = 0; i < 2; i++) {
                char path[256], line[4096];
                FILE *f;

                (void)snprintf(path, sizeof(path), "/lib/modules/%s/%s", name.release,
                               i == 0 ? "modules.builtin" : "modules.dep");
                f = fopen(path, "re");
                known |= i == 1 && f;
                while (f && fgets(line, sizeof(line), f))
                        if (strstr(line, "net/bridge/bridge.ko")) {
                                (void)fclose(f);
                                return true;
                        }
                if (f)
                        (void)fclose(f);
        }
        return !known;
}

static Result check_bridge(Doctor *d) {
        char path[128], flags[32] = "0";
        const struct dirent *entry;
        DIR *directory;
        unsigned ports = 0;
        struct stat st;

        if (!d->bridge) {
                say(d, _("Only the service knows which bridge is configured"));
                next(d, _("Get the service running first"));
                return RESULT_WARN;
        }
        (void)snprintf(path, sizeof(path), "/sys/class/net/%s/bridge", d->bridge);
        if (stat(path, &st) < 0) {
                if (!kernel_may_have_bridges()) {
                        say(d, _("The bridge %s is not there, and this kernel has no bridges"),
                            d->bridge);
                        next(d, _("Install a kernel with CONFIG_BRIDGE, or the rest of its modules"));
                        return RESULT_FAIL;
                }
                say(d, _("The bridge %s is not there"), d->bridge);
                next(d, "fcprocctl ensure-bridge");
                return RESULT_WARN;
        }
        (void)snprintf(path, sizeof(path), "/sys/class/net/%s/flags", d->bridge);
        if (!read_line(path, flags, sizeof(flags)) || !(strtoul(flags, NULL, 16) & 1)) {
                say(d, _("The bridge %s is down"), d->bridge);
                next(d, "fcprocctl ensure-bridge");
                return RESULT_WARN;
        }
        (void)snprintf(path, sizeof(path), "/sys/class/net/%s/brif", d->bridge);
        directory = opendir(path);
        while (directory && (entry = readdir(directory)))
                ports += entry->d_name[0] != '.';
        if (directory)
                (void)closedir(directory);
        if (ports + 24 > PORTS_MAX) {
                say(d, _("The bridge %s is nearly full, %u of %d ports used"), d->bridge, ports,
                    PORTS_MAX);
                next(d, _("fcprocctl prune removes your taps that nobody holds"));
                return RESULT_WARN;
        }
        say(d, _("The bridge %s is up, %u of %d ports used"), d->bridge, ports, PORTS_MAX);
        return RESULT_OK;
}

static Result check_features(Doctor *d) {
        static const char *const wanted[] = {"exit-status", "fchmodat2", "live-rename",
                                             "locked-port", "peer-pidfd"};
        char **list = NULL;
        char missing[128] = "";

        if (!d->service || sd_bus_get_property_strv(d->ctl->bus, FCPROC_NAME, FCPROC_PATH,
                                                    FCPROC_NAME, "Features", NULL, &list) < 0) {
                say(d, _("Only the service knows what the kernel offers"));
                next(d, _("Get the service running first"));
                return RESULT_WARN;
        }
        for (size_t i = 0; i < ELEMENTS(wanted); i++) {
                bool there = false;

                for (char **p = list; p && *p; p++)
                        there |= strcmp(*p, wanted[i]) == 0;
                if (!there) {
                        (void)strcat(missing, " ");
                        (void)strcat(missing, wanted[i]);
                }
        }
        for (char **p = list; p && *p; p++)
                free(*p);
        free(list);
        if (!*missing) {
                say(d, _("The kernel has all that the service can use"));
                return RESULT_OK;
        }
        say(d, _("The kernel lacks:%s"), missing);
        next(d, _("A newer kernel has them; what each gives is in docs/kernels.md"));
        return RESULT_WARN;
}

static Result check_swap(Doctor *d) {
        char line[256];
        FILE *f = fopen("/proc/swaps", "re");
        int lines = 0;

        while (f && fgets(line, sizeof(line), f))
                lines++;
        if (f)
                (void)fclose(f);
        if (lines <= 1) {
                say(d, _("There is no swap"));
                return RESULT_OK;
        }
        say(d, _("There is swap: guests' memory may end on a disk"));
        next(d, _("On a host for other people's VMs: swapoff --all"));
        return RESULT_WARN;
}

static Result check_switch(Doctor *d, const char *path, const char *off, const char *on,
                           const char *how) {
        char value[32] = "";

        if (!read_line(path, value, sizeof(value)) || strcmp(value, "1") != 0) {
                say(d, "%s", off);
                return RESULT_OK;
        }
        say(d, "%s", on);
        next(d, _("On a host for other people's VMs: %s"), how);
        return RESULT_WARN;
}

static Result check_ksm(Doctor *d) {
        return check_switch(
                d, "/sys/kernel/mm/ksm/run", _("Same-page merging (KSM) is off"),
                _("Same-page merging (KSM) is on: a guest can find out what another has in memory"),
                "echo 2 >/sys/kernel/mm/ksm/run");
}

static Result check_smt(Doctor *d) {
        return check_switch(d, "/sys/devices/system/cpu/smt/active",
                            _("Hyper-threading (SMT) is off"),
                            _("Hyper-threading (SMT) is on: two guests may share a core's caches"),
                            "echo off >/sys/devices/system/cpu/smt/control");
}

static const struct {
        const char *name;
        Result (*look)(Doctor *d);
} checks[] = {
        {"kvm", check_kvm},
        {"tun", check_tun},
        {"service", check_service},
        {"polkit", check_polkit},
        {"group", check_group},
        {"firecracker", check_firecracker},
        {"firecracker-version", check_version},
        {"bridge", check_bridge},
        {"forwarding", check_forward},
        {"isolation", check_isolation},
        {"kernel-features", check_features},
        {"swap", check_swap},
        {"ksm", check_ksm},
        {"smt", check_smt},
};

static void print(Doctor *d, const char *name, Result result, json_object *all) {
        static const char *const words[] = {"ok", "warn", "fail"};
        static const Colour colours[] = {COLOUR_GOOD, COLOUR_WARN, COLOUR_BAD};
        json_object *o;

        if (d->ctl->json == JSON_OFF) {
                if (d->ctl->quiet && result == RESULT_OK)
                        return;
                output_text(d->ctl, "%s%-4s%s  %-19s  %s%s%s", output_colour(stdout, colours[result]),
                            words[result], output_colour(stdout, COLOUR_NONE), name, d->text,
                            *d->next ? "\n                           → " : "", d->next);
                return;
        }
        o = json_object_new_object();
        (void)json_object_object_add(o, "check", json_object_new_string(name));
        (void)json_object_object_add(o, "result", json_object_new_string(words[result]));
        (void)json_object_object_add(o, "text", json_object_new_string(d->text));
        if (*d->next)
                (void)json_object_object_add(o, "next", json_object_new_string(d->next));
        (void)json_object_array_add(all, o);
}

int verb_doctor(Ctl *ctl, int n, char *arguments[]) {
        json_object *all;
        Doctor d = {.ctl = ctl};
        int code = CODE_DONE;

        if (ctl_remote(ctl))
                return report_usage(ctl, _("doctor looks at the host it runs on; run it there"));
        if (sd_bus_open_system(&ctl->bus) < 0)
                ctl->bus = NULL; /* that is a finding, not a failure */
        all = json_object_new_array();
        for (size_t i = 0; i < ELEMENTS(checks); i++) {
                Result result;

                *d.text = *d.next = '\0';
                result = checks[i].look(&d);
                if (result == RESULT_FAIL)
                        code = CODE_FAILED;
                print(&d, checks[i].name, result, all);
        }
        if (ctl->json != JSON_OFF)
                output_json(ctl, json_object_get(all));
        (void)json_object_put(all);
        free(d.bridge);
        free(d.firecracker);
        return code;
}
