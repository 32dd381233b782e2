/* SPDX-License-Identifier: MIT */
/* A program that knows libfcproc by its installed files alone: test_library.py compiles it against them.
 * It never says FCPROC_ERROR, and prints what the errors were before anybody did: DOMAIN CODE TEXT.
 *
 *     library-client errors NAME…          the GErrors that GDBus makes of these D-Bus errors
 *     library-client wait SOCKET USEC      WaitForExit
 *     library-client create-tap NAME       and so on: the calls of the stub */

#include <fcproc/fcproc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int report(GError *error) {
        g_autofree char *remote = g_dbus_error_get_remote_error(error);

        (void)g_dbus_error_strip_remote_error(error);
        printf("%s %d %s: %s\n", g_quark_to_string(error->domain), error->code,
               remote ? remote : "-", error->message);
        g_error_free(error);
        return 1;
}

static int call(FcprocService *s, const char *what, const char *name, const char *number) {
        const GDBusCallFlags none = G_DBUS_CALL_FLAGS_NONE;
        g_autofree char *cause = NULL;
        GError *error = NULL;
        guint pid = 0;
        int n = 0;

        if (strcmp(what, "wait") == 0)
                fcproc_service_call_wait_for_exit_sync(s, 0, name,
                                                       number ? g_ascii_strtoull(number, NULL, 10)
                                                              : FCPROC_FOREVER,
                                                       FCPROC_NO_OPTIONS, none, FCPROC_NO_TIMEOUT,
                                                       &cause, &n, NULL, &error);
        else if (strcmp(what, "find-pid") == 0)
                fcproc_service_call_find_pid_sync(s, name, none, -1, &pid, NULL, &error);
        else if (strcmp(what, "create-tap") == 0)
                fcproc_service_call_create_tap_sync(s, name, FCPROC_NO_OPTIONS, none, -1, &n, NULL,
                                                    &error);
        else if (strcmp(what, "delete-tap") == 0)
                fcproc_service_call_delete_tap_sync(s, name, FCPROC_NO_OPTIONS, none, -1, NULL,
                                                    &error);
        else
                return 2;
        if (error)
                return report(error);
        printf("%s %u %d\n", cause ? cause : "done", pid, n);
        return 0;
}

int main(int argc, char *argv[]) {
        g_autoptr(FcprocService) service = NULL;
        GError *error = NULL;

        if (argc < 3)
                return 2;
        if (strcmp(argv[1], "errors") == 0) {
                for (int i = 2; i < argc; i++)
                        (void)report(g_dbus_error_new_for_dbus_error(argv[i], "text"));
                return 0;
        }
        service = fcproc_service_proxy_new_for_bus_sync(G_BUS_TYPE_SYSTEM, G_DBUS_PROXY_FLAGS_NONE,
                                                        FCPROC_BUS_NAME, FCPROC_OBJECT_PATH, NULL,
                                                        &error);
        return service ? call(service, argv[1], argv[2], argv[3]) : report(error);
}
