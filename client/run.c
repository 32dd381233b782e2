/* SPDX-License-Identifier: MIT */
/* run: a VM's whole life as an ordinary user.
 *
 * Three things see to it that nothing is left, whatever happens. The taps are auto-delete: the
 * service removes them when their VMM lets go of them, or when our connection goes before one
 * attached. The VMM gets SIGKILL from the kernel when we are gone (PR_SET_PDEATHSIG, prctl(2)). And
 * what ends in good order is looked over once more at the end (verb_run).
 *
 * Two runs at once must not take each other's taps and sockets. Between looking what is free and
 * having it, a lock is held on the user's directory; it goes with its descriptor. */

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

#include "agent.h"
#include "i18n.h"
#include "lists.h"
#include "output.h"
#include "report.h"
#include "run.h"
#include "socket-state.h"
#include "text.h"

#define LOCK_PATIENCE (10 * USEC_PER_SEC)

/* --- before the VMM --- */

/* False if somebody else has it all the time: a run that waits for a password, or is stopped. */
static bool take_lock(Run *run, uint64_t patience) {
        const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
        uint64_t until = now_usec() + patience;
        bool told = false;

        while (flock(run->lock, LOCK_EX | LOCK_NB) < 0) {
                if (now_usec() >= until || (errno != EWOULDBLOCK && errno != EINTR))
                        return false;
                if (!told)
                        report_note(run->ctl, _("Waiting until another VM of yours is on its way …"));
                told = true;
                (void)nanosleep(&pause, NULL);
        }
        return true;
}

static int lock_directory(Run *run) {
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/%u", run->ctl->runtime_dir, run->ctl->uid) < 0)
                abort();
        run->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (run->lock < 0)
                return report_failure(run->ctl, CODE_FAILED, SD_BUS_ERROR_FAILED,
                                      _("Cannot look into %s: %m"), path);
        if (!take_lock(run, LOCK_PATIENCE))
                return report_failure(run->ctl, CODE_FAILED, FCPROC_ERROR "InUse",
                                      _("Another VM of yours is being started, and does not get on; does it "
                                        "wait for a password? Try again"));
        return CODE_DONE;
}

static void find_directory(SocketFile *socket, const char *path) {
        _cleanup_free_ char *directory = NULL;
        const char *slash = strrchr(path, '/');

        directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
        if (!directory)
                abort();
        socket->path = path;
        socket->name = slash ? slash + 1 : path;
        socket->directory = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* What an earlier VM left there goes; Firecracker would not start on it. */
static int free_socket(const Run *run, const SocketFile *socket) {
        const char *path = socket->path;

        if (socket->directory < 0)
                return CODE_DONE; /* Firecracker will say what is wrong with it */
        switch (socket_state(socket->directory, socket->name, geteuid(), NULL)) {
        case SOCKET_ABSENT:
                return CODE_DONE;
        case SOCKET_STALE:
                if (unlinkat(socket->directory, socket->name, 0) == 0 || errno == ENOENT)
                        return CODE_DONE;
                return report_failure(run->ctl, CODE_FAILED, SD_BUS_ERROR_FAILED,
                                      _("Cannot remove %s: %m"), path);
        case SOCKET_IN_USE:
                return report_failure(run->ctl, CODE_FAILED, FCPROC_ERROR "InUse",
                                      _("%s is in use: a VM runs there already; shut it down, or choose "
                                        "another name"),
                                      path);
        default:
                return report_failure(run->ctl, CODE_FAILED, FCPROC_ERROR "InUse",
                                      _("%s is in the way, and no socket of yours; remove it, or choose "
                                        "another name"),
                                      path);
        }
}

/* The service would replace a tap of the same user, and whoever holds it would lose its link. */
static int taps_are_free(const Run *run) {
        int code = CODE_DONE;
        json_object *taps;

        code = taps_fetch(run->ctl, &taps);
        if (code != CODE_DONE)
                return code;
        for (size_t i = 0; i < json_object_array_length(taps) && code == CODE_DONE; i++) {
                json_object *o = json_object_array_get_idx(taps, i);

                for (size_t k = 0; k < run->config.n_taps && code == CODE_DONE; k++)
                        if (strcmp(member_string(o, "tap"), run->config.taps[k].name) == 0 &&
                            member_number(o, "uid") == run->ctl->uid &&
                            (member_bool(o, "carrier") || member_bool(o, "auto-delete")))
                                code = report_failure(run->ctl, CODE_FAILED, FCPROC_ERROR "InUse",
                                                      _("The tap %s is in use by another VM of yours; choose "
                                                        "another name for it in %s"),
                                                      run->config.taps[k].name,
                                                      run->ctl->config_file);
        }
        (void)json_object_put(taps);
        return code;
}

static int create_build(Ctl *ctl, sd_bus_message *m, void *userdata) {
        const VmTap *tap = userdata;

        if (!tap->guest_mac)
                return sd_bus_message_append(m, "sa{sv}", tap->name, 1, "auto-delete", "b", 1);
        return sd_bus_message_append(m, "sa{sv}", tap->name, 2, "auto-delete", "b", 1, "guest-mac",
                                     "s", tap->guest_mac);
}

static int create_taps(Run *run) {
        sd_bus_message *reply = NULL;
        int code;

        code = taps_are_free(run);
        for (size_t i = 0; i < run->config.n_taps && code == CODE_DONE; i++) {
                VmTap *tap = &run->config.taps[i];

                code = call_wait(run->ctl, "CreateTap", create_build, tap, &reply);
                if (code != CODE_DONE)
                        report_note(run->ctl, _("%s asks for the tap %s"), run->ctl->config_file,
                                    tap->name);
                if (code == CODE_DONE && sd_bus_message_read(reply, "i", &tap->ifindex) < 0)
                        code = report_unreadable(run->ctl);
                reply = sd_bus_message_unref(reply);
        }
        return code;
}

static int ensure(Run *run, const char *method) {
        sd_bus_message *reply = NULL;
        int code = call_wait(run->ctl, method, call_build_options, NULL, &reply);

        sd_bus_message_unref(reply);
        return code;
}

static int resolve_binary(Run *run) {
        sd_bus_message *reply = NULL;
        const char *path;
        int code;

        code = call_wait(run->ctl, "ResolveBinary", NULL, NULL, &reply);
        if (code == CODE_DONE && sd_bus_message_read(reply, "s", &path) < 0)
                code = report_unreadable(run->ctl);
        if (code == CODE_DONE) {
                run->binary = strdup(path);
                if (!run->binary)
                        abort();
        }
        sd_bus_message_unref(reply);
        return code;
}

static int run_prepare(Run *run) {
        int code;

        code = ctl_connect(run->ctl);
        if (code == CODE_DONE)
                code = target_locate(run->ctl, &run->target);
        if (code == CODE_DONE)
                code = resolve_binary(run);
        if (code == CODE_DONE)
                code = ensure(run, "EnsureSocketDir");
        if (code == CODE_DONE && run->config.n_taps > 0)
                code = ensure(run, "EnsureBridge");
        if (code == CODE_DONE)
                code = lock_directory(run);
        if (code == CODE_DONE) {
                find_directory(&run->api, run->target.path);
                code = free_socket(run, &run->api);
        }
        if (code == CODE_DONE && run->config.vsock) {
                find_directory(&run->vsock, run->config.vsock);
                code = free_socket(run, &run->vsock);
        }
        return code == CODE_DONE && run->config.n_taps > 0 ? create_taps(run) : code;
}

/* --- after it --- */

typedef struct Deletion {
        const VmTap *tap;
        size_t *left; /* how many are under way */
} Deletion;

static VmTap *tap_of_index(VmConfig *config, int64_t ifindex) {
        for (size_t k = 0; k < config->n_taps; k++)
                if (ifindex > 0 && config->taps[k].ifindex == ifindex)
                        return &config->taps[k];
        return NULL;
}

static int delete_build(Ctl *ctl, sd_bus_message *m, void *userdata) {
        const Deletion *d = userdata;

        return sd_bus_message_append(m, "sa{sv}", d->tap->name, 0);
}

static void on_deleted(Ctl *ctl, sd_bus_message *reply, const sd_bus_error *e, void *userdata) {
        Deletion *d = userdata;

        (*d->left)--;
        if (sd_bus_error_is_set(e) && !sd_bus_error_has_name(e, FCPROC_ERROR "NoSuchTap"))
                (void)report_call(ctl, e, 0, NULL);
}

/* What the service removes by itself disappears from its list first, and from the kernel's some
 * milliseconds later. Nobody tells those who did not subscribe, for which there is a quota. */
static void await_deletion(const VmConfig *config) {
        const struct timespec pause = {.tv_nsec = 2 * 1000 * 1000};
        uint64_t until = now_usec() + USEC_PER_SEC;
        char name[IF_NAMESIZE];

        for (size_t k = 0; k < config->n_taps; k++)
                while (config->taps[k].ifindex > 0 && now_usec() < until &&
                       if_indextoname((unsigned)config->taps[k].ifindex, name))
                        (void)nanosleep(&pause, NULL);
}

/* The service removes them by itself; here it is seen to before we say that all is over. A tap of
 * another index is not the one that was made here, and one that is held is somebody else's now. */
static void delete_taps(Run *run) {
        VmConfig *config = &run->config;
        Deletion *deletions = calloc(config->n_taps + 1, sizeof(*deletions));
        json_object *taps = NULL;
        size_t made = 0, left = 0;
        int r = 0;

        if (!deletions)
                abort();
        for (size_t k = 0; k < config->n_taps; k++)
                made += config->taps[k].ifindex > 0;
        if (made > 0 && run->unserved)
                report_note(run->ctl, _("The service removes its taps when it is back"));
        else if (made > 0 && run->ctl->bus && taps_fetch(run->ctl, &taps) == CODE_DONE) {
                for (size_t i = 0; i < json_object_array_length(taps) && r >= 0; i++) {
                        json_object *o = json_object_array_get_idx(taps, i);
                        VmTap *tap = tap_of_index(config, member_number(o, "ifindex"));

                        if (tap && member_bool(o, "carrier"))
                                tap->ifindex = 0;
                        else if (tap) {
                                deletions[left] = (Deletion){tap, &left};
                                r = call_start(run->ctl, "DeleteTap", CALL_USUAL, delete_build,
                                               on_deleted, &deletions[left++]);
                        }
                }
                while (left > 0 && r >= 0)
                        r = ctl_iterate(run->ctl, USEC_FOREVER);
                if (r >= 0)
                        await_deletion(config);
        }
        if (r < 0) {
                (void)report_call(run->ctl, NULL, r, NULL);
                /* what is under way must not find what goes now */
                run->ctl->bus = sd_bus_close_unref(run->ctl->bus);
        }
        (void)json_object_put(taps);
        free(deletions);
}

static void remove_stale(const Run *run, const SocketFile *socket) {
        if (socket->directory < 0 ||
            socket_state(socket->directory, socket->name, geteuid(), NULL) != SOCKET_STALE)
                return;
        if (unlinkat(socket->directory, socket->name, 0) < 0 && errno != ENOENT)
                (void)report_failure(run->ctl, CODE_FAILED, SD_BUS_ERROR_FAILED,
                                     _("Cannot remove %s: %m"), socket->path);
}

/* Under the lock, or it could be the socket of the next VM of that name, which does not listen yet.
 * Where the lock is not to be had the socket stays, for the next run or prune. */
static void remove_sockets(Run *run) {
        if (run->pid > 0 && take_lock(run, LOCK_PATIENCE)) {
                remove_stale(run, &run->api);
                remove_stale(run, &run->vsock);
        }
        (void)close_fd(run->lock);
        (void)close_fd(run->api.directory);
        (void)close_fd(run->vsock.directory);
}

/* As a shell has it: 128 and the signal's number, if it was one. */
static int run_report(const Run *run) {
        const char *cause = run->cause == CLD_EXITED   ? "exited"
                            : run->cause == CLD_DUMPED ? "dumped"
                                                       : "signaled";
        char ended[128];

        exit_describe(cause, run->status, ended, sizeof(ended));
        report_note(run->ctl, "%s: %s", run->name, ended);
        if (run->ctl->json != JSON_OFF) {
                json_object *o = json_object_new_object(), *taps = json_object_new_array();
                const char *meaning = exit_code_meaning(run->status);

                for (size_t i = 0; i < run->config.n_taps; i++)
                        (void)json_object_array_add(taps,
                                                    json_object_new_string(run->config.taps[i].name));
                (void)json_object_object_add(o, "api_sock", json_object_new_string(run->target.path));
                (void)json_object_object_add(o, "pid", json_object_new_int(run->pid));
                (void)json_object_object_add(o, "taps", taps);
                (void)json_object_object_add(o, "cause", json_object_new_string(cause));
                (void)json_object_object_add(o, "status", json_object_new_int(run->status));
                if (run->cause == CLD_EXITED && meaning)
                        (void)json_object_object_add(o, "meaning", json_object_new_string(meaning));
                output_json(run->ctl, o);
        }
        return run->cause == CLD_EXITED ? run->status : 128 + run->status;
}

static int check_arguments(const Ctl *ctl, int n, char *arguments[]) {
        static const char *const ours[] = {"--api-sock", "--config-file", "--no-api"};

        if (ctl_remote(ctl))
                return report_usage(ctl, _("run starts a VM on this host, and not on another"));
        if (!ctl->config_file)
                return report_usage(ctl, _("run needs --config-file=FILE, Firecracker's own; see fcprocctl "
                                           "run --help"));
        if (n - 1 != ctl->n_behind)
                return report_usage(ctl,
                                    _("run takes one NAME; arguments for Firecracker go behind --"));
        for (int i = 1; i < n; i++)
                for (size_t k = 0; k < ELEMENTS(ours); k++)
                        if (strcmp(arguments[i], ours[k]) == 0)
                                return report_usage(ctl,
                                                    _("%s is not for you to give: run does so itself"),
                                                    ours[k]);
        return CODE_DONE;
}

int verb_run(Ctl *ctl, int n, char *arguments[]) {
        Run run = {.ctl = ctl,
                   .name = arguments[0],
                   .lock = -1,
                   .api.directory = -1,
                   .vsock.directory = -1,
                   .console = CONSOLE_NONE};
        int code;

        code = check_arguments(ctl, n, arguments);
        if (code == CODE_DONE)
                code = target_parse(ctl, run.name, false, &run.target);
        if (code == CODE_DONE && run.target.path)
                code = report_usage(ctl, _("'%.100s' is a path; run takes the bare name of a VM"),
                                    run.name);
        if (code == CODE_DONE)
                code = vm_config_read(ctl, ctl->config_file, &run.config);
        if (code == CODE_DONE)
                code = run_prepare(&run);
        /* from here on the terminal is the guest's, and nobody can be asked */
        agent_close();
        ctl->no_ask_password = true;
        if (code == CODE_DONE)
                code = vmm_start(&run, n - 1, arguments + 1);
        if (code == CODE_DONE)
                code = vmm_follow(&run);
        remove_sockets(&run);
        delete_taps(&run);
        if (code == CODE_DONE)
                code = run_report(&run);
        target_done(&run.target);
        vm_config_done(&run.config);
        free(run.binary);
        return code;
}
