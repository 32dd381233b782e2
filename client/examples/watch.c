/* SPDX-License-Identifier: MIT */
/* watch prints what becomes of the caller's VMMs and taps (as root: of all), until SIGINT or SIGTERM.
 *
 *     cc watch.c $(pkg-config --cflags --libs fcproc) -o watch
 *
 * As a session program does it: nothing here blocks, everything is called from the main loop. The
 * service may be restarted meanwhile, or start later. */

#include <fcproc/fcproc.h>
#include <glib-unix.h>
#include <stdio.h>

typedef struct Watch {
        GMainLoop *loop;
        FcprocService *service;
        int status;
} Watch;

static void fail(Watch *w, GError *error) {
        (void)g_dbus_error_strip_remote_error(error);
        g_printerr("watch: %s\n", error->message);
        w->status = 1;
        g_main_loop_quit(w->loop);
}

/* --- the signals, each with the arguments that it has on the bus --- */

static void on_process_appeared(FcprocService *service, guint pid, guint uid, const char *api_sock,
                                GVariant *more, Watch *w) {
        g_print("process %u of uid %u listens on %s\n", pid, uid, api_sock);
}

static void on_process_exited(FcprocService *service, guint pid, guint uid, const char *api_sock,
                              const char *cause, int status, guint64 exited_usec, GVariant *more,
                              Watch *w) {
        g_autoptr(GDateTime) when = g_date_time_new_from_unix_local((gint64)(exited_usec / 1000000));
        g_autofree char *clock = g_date_time_format(when, "%T");

        g_print("process %u of uid %u is gone since %s: %s, %d\n", pid, uid, clock, cause, status);
}

static void on_tap_created(FcprocService *service, const char *tap, int ifindex, guint uid,
                           GVariant *more, Watch *w) {
        g_print("tap %s of uid %u was made\n", tap, uid);
}

static void on_tap_deleted(FcprocService *service, const char *tap, int ifindex, guint uid,
                           GVariant *more, Watch *w) {
        g_print("tap %s of uid %u is gone\n", tap, uid);
}

/* --- subscribing: once now, and again each time the service is a new one --- */

static void on_subscribed(GObject *service, GAsyncResult *result, gpointer data) {
        g_autofree char *owner = g_dbus_proxy_get_name_owner(G_DBUS_PROXY(service));
        g_autoptr(GError) error = NULL;
        Watch *w = data;

        if (fcproc_service_call_subscribe_finish(FCPROC_SERVICE(service), result, &error))
                g_print("watching, version %s\n", fcproc_service_get_version(w->service));
        else if (owner) /* else it went away over it, and we try again when it is back */
                fail(w, error);
}

static void on_owner_changed(FcprocService *service, GParamSpec *unused, Watch *w) {
        g_autofree char *owner = g_dbus_proxy_get_name_owner(G_DBUS_PROXY(service));

        if (owner)
                fcproc_service_call_subscribe(service, FCPROC_NO_OPTIONS, G_DBUS_CALL_FLAGS_NONE,
                                              -1, NULL, on_subscribed, w);
        else
                g_print("the service is not there\n");
}

static void on_proxy(GObject *source, GAsyncResult *result, gpointer data) {
        g_autoptr(GError) error = NULL;
        Watch *w = data;

        w->service = fcproc_service_proxy_new_for_bus_finish(result, &error);
        if (!w->service) {
                fail(w, error);
                return;
        }
        g_signal_connect(w->service, "process-appeared", G_CALLBACK(on_process_appeared), w);
        g_signal_connect(w->service, "process-exited", G_CALLBACK(on_process_exited), w);
        g_signal_connect(w->service, "tap-created", G_CALLBACK(on_tap_created), w);
        g_signal_connect(w->service, "tap-deleted", G_CALLBACK(on_tap_deleted), w);
        g_signal_connect(w->service, "notify::g-name-owner", G_CALLBACK(on_owner_changed), w);
        on_owner_changed(w->service, NULL, w);
}

/* The service forgets us when our connection ends: there is nothing to undo. */
static gboolean on_end(gpointer data) {
        g_main_loop_quit(((Watch *)data)->loop);
        return G_SOURCE_CONTINUE;
}

int main(void) {
        Watch w = {.loop = g_main_loop_new(NULL, FALSE)};

        setvbuf(stdout, NULL, _IOLBF, 0); /* a line is out when it is printed, into a pipe, too */
        g_unix_signal_add(SIGINT, on_end, &w);
        g_unix_signal_add(SIGTERM, on_end, &w);
        fcproc_service_proxy_new_for_bus(G_BUS_TYPE_SYSTEM, G_DBUS_PROXY_FLAGS_NONE,
                                         FCPROC_BUS_NAME, FCPROC_OBJECT_PATH, NULL, on_proxy, &w);
        g_main_loop_run(w.loop);

        g_clear_object(&w.service);
        g_main_loop_unref(w.loop);
        return w.status;
}
