/* SPDX-License-Identifier: MIT */
/* vm NAME TAP CONFIG [FIRECRACKER] is a microVM's whole life, as an ordinary user.
 *
 *     cc vm.c $(pkg-config --cflags --libs fcproc) -o vm
 *
 * CONFIG is a configuration file of Firecracker's own, with TAP as the host_dev_name of its network
 * interface. The guest is shut down on SIGINT or SIGTERM; vm exits with Firecracker's status. It leaves
 * no process, socket or tap, whatever went wrong on the way: start() is what can fail, stop() undoes as
 * much of it as was done. */

#include <fcproc/fcproc.h>
#include <gio/gunixfdlist.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRACE_USEC (30 * G_USEC_PER_SEC)
/* For what may ask for an administrator's password. */
#define MAY_ASK G_DBUS_CALL_FLAGS_ALLOW_INTERACTIVE_AUTHORIZATION
#define NO_FLAGS G_DBUS_CALL_FLAGS_NONE

typedef struct Vm {
        FcprocService *service;
        const char *name, *tap, *config;
        char *firecracker, *api_sock;
        gboolean has_tap;
        GSubprocess *process;
        int pidfd;
} Vm;

/* GDBus puts the error's name before the text; people need the text. */
static void complain(GError *error) {
        (void)g_dbus_error_strip_remote_error(error);
        g_printerr("vm: %s\n", error->message);
}

/* The socket that an earlier VM of this name left behind would keep Firecracker from starting. */
static gboolean clear_socket(Vm *vm, GError **error) {
        g_autoptr(GError) e = NULL;
        guint pid;

        if (fcproc_service_call_find_pid_sync(vm->service, vm->api_sock, NO_FLAGS, -1, &pid, NULL,
                                              &e)) {
                g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS, "%s runs already, as process %u",
                            vm->name, pid);
                return FALSE;
        }
        if (!g_error_matches(e, FCPROC_ERROR, FCPROC_ERROR_NO_SUCH_PROCESS)) {
                g_propagate_error(error, g_steal_pointer(&e));
                return FALSE;
        }
        (void)g_unlink(vm->api_sock);
        return TRUE;
}

/* CreateTap would replace a tap of ours, and take it from the VM that holds it. */
static gboolean tap_is_free(Vm *vm, GError **error) {
        g_autoptr(GVariant) taps = NULL;
        GVariantIter iter;
        const char *name;
        guint uid;

        if (!fcproc_service_call_list_taps_sync(vm->service, NO_FLAGS, -1, &taps, NULL, error))
                return FALSE;
        g_variant_iter_init(&iter, taps);
        while (g_variant_iter_next(&iter, "(&siu@a{sv})", &name, NULL, &uid, NULL))
                if (g_str_equal(name, vm->tap) && uid == getuid()) {
                        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                                    "there is a tap %s already", vm->tap);
                        return FALSE;
                }
        return TRUE;
}

/* The tap goes with its VMM, and with us if we die before there is one. */
static gboolean create_tap(Vm *vm, GError **error) {
        GVariantDict options;
        int ifindex;

        g_variant_dict_init(&options, NULL);
        g_variant_dict_insert(&options, "auto-delete", "b", TRUE);
        vm->has_tap = fcproc_service_call_create_tap_sync(vm->service, vm->tap,
                                                          g_variant_dict_end(&options), MAY_ASK,
                                                          FCPROC_NO_TIMEOUT, &ifindex, NULL, error);
        return vm->has_tap;
}

/* In a session of its own, and deaf to what a service manager sends to all processes of a unit: a
 * Ctrl-C and a SIGTERM are meant for us, who end it gently. It is not to outlive us, should we be
 * killed. */
static void in_child(gpointer parent) {
        (void)setsid();
        (void)signal(SIGINT, SIG_IGN);
        (void)signal(SIGTERM, SIG_IGN);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != GPOINTER_TO_INT(parent))
                _exit(127);
}

static gboolean spawn(Vm *vm, GError **error) {
        g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_NONE);

        g_subprocess_launcher_set_child_setup(launcher, in_child, GINT_TO_POINTER(getpid()), NULL);
        vm->process = g_subprocess_launcher_spawn(launcher, error, vm->firecracker, "--api-sock",
                                                  vm->api_sock, "--id", vm->name, "--config-file",
                                                  vm->config, NULL);
        return vm->process != NULL;
}

/* A descriptor that becomes readable when the VMM is gone, and that no reuse of its pid can fool. */
static gboolean open_process(Vm *vm, GError **error) {
        g_autoptr(GUnixFDList) fds = NULL;
        g_autoptr(GVariant) handle = NULL;
        guint pid;

        if (!fcproc_service_call_open_process_sync(vm->service, vm->api_sock, NO_FLAGS, -1, NULL,
                                                   &pid, &handle, &fds, NULL, error))
                return FALSE;
        vm->pidfd = g_unix_fd_list_get(fds, g_variant_get_handle(handle), error);
        if (vm->pidfd >= 0)
                g_print("%s runs as process %u\n", vm->name, pid);
        return vm->pidfd >= 0;
}

static gboolean start(Vm *vm, GError **error) {
        g_autofree char *bridge = NULL, *address = NULL, *directory = NULL;
        FcprocService *s;
        int ifindex;

        vm->service = fcproc_service_proxy_new_for_bus_sync(G_BUS_TYPE_SYSTEM,
                                                            G_DBUS_PROXY_FLAGS_NONE, FCPROC_BUS_NAME,
                                                            FCPROC_OBJECT_PATH, NULL, error);
        if (!vm->service)
                return FALSE;
        s = vm->service;
        if (!vm->firecracker &&
            !fcproc_service_call_resolve_binary_sync(s, NO_FLAGS, -1, &vm->firecracker, NULL, error))
                return FALSE;
        if (!fcproc_service_call_ensure_bridge_sync(s, FCPROC_NO_OPTIONS, MAY_ASK, FCPROC_NO_TIMEOUT,
                                                    &bridge, &ifindex, &address, NULL, error) ||
            !fcproc_service_call_ensure_socket_dir_sync(s, FCPROC_NO_OPTIONS, NO_FLAGS, -1,
                                                        &directory, NULL, error))
                return FALSE;
        vm->api_sock = g_strdup_printf("%s/%s.sock", directory, vm->name);
        return clear_socket(vm, error) && tap_is_free(vm, error) && create_tap(vm, error) &&
               spawn(vm, error) &&
               fcproc_service_call_ensure_socket_access_sync(s, vm->api_sock, vm->name,
                                                             FCPROC_NO_OPTIONS, NO_FLAGS,
                                                             FCPROC_NO_TIMEOUT, NULL, error) &&
               open_process(vm, error);
}

/* Ctrl-Alt-Del, the grace, SIGKILL: all that is the service's part. */
static void shut_down(Vm *vm) {
        g_autofree char *how = NULL, *cause = NULL;
        g_autoptr(GError) error = NULL;
        int status;

        if (fcproc_service_call_shutdown_sync(vm->service, vm->api_sock, GRACE_USEC,
                                              FCPROC_NO_OPTIONS, NO_FLAGS, FCPROC_NO_TIMEOUT, &how,
                                              &cause, &status, NULL, &error))
                g_print("%s: %s\n", vm->name, how);
        else
                complain(error);
}

/* Returns what to exit with. cause and status of Shutdown would tell it, too, but the parent knows them
 * on every kernel. */
static int end_process(Vm *vm) {
        int status;

        shut_down(vm);
        g_subprocess_force_exit(vm->process); /* one that never listened, or that is paused */
        (void)g_subprocess_wait(vm->process, NULL, NULL);
        (void)g_unlink(vm->api_sock);
        status = g_subprocess_get_status(vm->process);
        if (WIFEXITED(status))
                g_print("%s: exited, status %d\n", vm->name, WEXITSTATUS(status));
        else
                g_print("%s: killed by signal %d\n", vm->name, WTERMSIG(status));
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void delete_tap(Vm *vm) {
        g_autoptr(GError) error = NULL;

        /* auto-delete may have been quicker: that is as good */
        if (!fcproc_service_call_delete_tap_sync(vm->service, vm->tap, FCPROC_NO_OPTIONS, NO_FLAGS,
                                                 -1, NULL, &error) &&
            !g_error_matches(error, FCPROC_ERROR, FCPROC_ERROR_NO_SUCH_TAP))
                complain(error);
}

static int stop(Vm *vm) {
        int status = vm->process ? end_process(vm) : 1;

        if (vm->has_tap)
                delete_tap(vm);
        if (vm->pidfd >= 0)
                (void)close(vm->pidfd);
        g_clear_object(&vm->process);
        g_clear_object(&vm->service);
        g_free(vm->api_sock);
        g_free(vm->firecracker);
        return status;
}

static gboolean on_exit_of_vm(int pidfd, GIOCondition condition, gpointer loop) {
        g_main_loop_quit(loop);
        return G_SOURCE_REMOVE;
}

static gboolean on_signal(gpointer loop) {
        g_main_loop_quit(loop);
        return G_SOURCE_CONTINUE;
}

int main(int argc, char *argv[]) {
        g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
        g_autoptr(GError) error = NULL;
        Vm vm = {.pidfd = -1};
        gboolean started;
        int status;

        if (argc < 4 || argc > 5) {
                g_printerr("Usage: %s NAME TAP CONFIG [FIRECRACKER]\n", argv[0]);
                return 2;
        }
        vm.name = argv[1];
        vm.tap = argv[2];
        vm.config = argv[3];
        vm.firecracker = g_strdup(argv[4]);

        setvbuf(stdout, NULL, _IOLBF, 0); /* a line is out when it is printed, into a pipe, too */
        /* From the first: one that comes while start() is at work is minded right after it. */
        g_unix_signal_add(SIGINT, on_signal, loop);
        g_unix_signal_add(SIGTERM, on_signal, loop);
        started = start(&vm, &error);
        if (started) {
                g_unix_fd_add(vm.pidfd, G_IO_IN, on_exit_of_vm, loop);
                g_main_loop_run(loop);
        } else
                complain(error);
        status = stop(&vm);
        return started ? status : 1;
}
