/* SPDX-License-Identifier: MIT */
/* The interface as one table, and its properties. A method's handler is method_<name>() in
 * methods-*.c; a test holds this table to dbus/org.banger.FcProc.xml. */

#include <string.h>

#include "base/config.h"
#include "base/log.h"
#include "common/cleanup.h"
#include "methods/interface.h"
#include "methods/methods.h"

#define PROPERTY(name)                                                                    \
  static int property_##name(sd_bus *bus, const char *path, const char *interface,        \
                             const char *property, sd_bus_message *reply, void *userdata, \
                             sd_bus_error *error)

PROPERTY(version) {
        return sd_bus_message_append(reply, "s", FCPROC_VERSION);
}

PROPERTY(bridge_name) {
        Service *s = userdata;

        return sd_bus_message_append(reply, "s", s->config->bridge_name);
}

PROPERTY(bridge_address) {
        Service *s = userdata;

        return sd_bus_message_append(reply, "s", s->config->bridge_address);
}

PROPERTY(runtime_dir) {
        Service *s = userdata;

        return sd_bus_message_append(reply, "s", s->config->runtime_dir);
}

PROPERTY(firecracker_bin) {
        Service *s = userdata;

        return sd_bus_message_append(reply, "s", s->config->firecracker_bin);
}

PROPERTY(features) {
        Service *s = userdata;
        const Features *f = &s->features;
        const struct {
                bool there;
                const char *name;
        } features[] = {
                {f->peer_pidfd, "peer-pidfd"},   {f->exit_status, "exit-status"},
                {f->fchmodat2, "fchmodat2"},     {f->locked_port, "locked-port"},
                {f->live_rename, "live-rename"},
        };
        int r = sd_bus_message_open_container(reply, 'a', "s");

        for (size_t i = 0; r >= 0 && i < ELEMENTS(features); i++)
                if (features[i].there)
                        r = sd_bus_message_append(reply, "s", features[i].name);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* polkit decides, not CAP_SYS_ADMIN */
#define OPEN SD_BUS_VTABLE_UNPRIVILEGED

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("EnsureBridge", SD_BUS_ARGS("a{sv}", options),
                                SD_BUS_RESULT("s", bridge, "i", ifindex, "s", address),
                                method_ensure_bridge, OPEN),
        SD_BUS_METHOD_WITH_ARGS("RemoveBridge", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                                method_remove_bridge, OPEN),
        SD_BUS_METHOD_WITH_ARGS("EnsureSocketDir", SD_BUS_ARGS("a{sv}", options),
                                SD_BUS_RESULT("s", path), method_ensure_socket_dir, OPEN),
        SD_BUS_METHOD_WITH_ARGS("CreateTap", SD_BUS_ARGS("s", tap, "a{sv}", options),
                                SD_BUS_RESULT("i", ifindex), method_create_tap, OPEN),
        SD_BUS_METHOD_WITH_ARGS("DeleteTap", SD_BUS_ARGS("s", tap, "a{sv}", options),
                                SD_BUS_NO_RESULT, method_delete_tap, OPEN),
        SD_BUS_METHOD_WITH_ARGS("ListTaps", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(siua{sv})", taps),
                                method_list_taps, OPEN),
        SD_BUS_METHOD_WITH_ARGS("ResolveBinary", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", path),
                                method_resolve_binary, OPEN),
        SD_BUS_METHOD_WITH_ARGS("EnsureSocketAccess",
                                SD_BUS_ARGS("s", socket_path, "s", label, "a{sv}", options),
                                SD_BUS_NO_RESULT, method_ensure_socket_access, OPEN),
        SD_BUS_METHOD_WITH_ARGS("FindPID", SD_BUS_ARGS("s", api_sock), SD_BUS_RESULT("u", pid),
                                method_find_pid, OPEN),
        SD_BUS_METHOD_WITH_ARGS("ResolvePID", SD_BUS_ARGS("s", api_sock, "u", machine_pid),
                                SD_BUS_RESULT("u", pid), method_resolve_pid, OPEN),
        SD_BUS_METHOD_WITH_ARGS("OpenProcess", SD_BUS_ARGS("s", api_sock),
                                SD_BUS_RESULT("u", pid, "h", pidfd), method_open_process, OPEN),
        SD_BUS_METHOD_WITH_ARGS("ListProcesses", SD_BUS_NO_ARGS,
                                SD_BUS_RESULT("a(uusa{sv})", processes), method_list_processes, OPEN),
        SD_BUS_METHOD_WITH_ARGS("SendCtrlAltDel", SD_BUS_ARGS("s", api_sock, "a{sv}", options),
                                SD_BUS_NO_RESULT, method_send_ctrl_alt_del, OPEN),
        SD_BUS_METHOD_WITH_ARGS("WaitForExit",
                                SD_BUS_ARGS("u", pid, "s", api_sock, "t", timeout_usec, "a{sv}",
                                            options),
                                SD_BUS_RESULT("s", cause, "i", status), method_wait_for_exit, OPEN),
        SD_BUS_METHOD_WITH_ARGS("WatchExit",
                                SD_BUS_ARGS("u", pid, "s", api_sock, "t", timeout_usec, "a{sv}",
                                            options),
                                SD_BUS_RESULT("u", pid), method_watch_exit, OPEN),
        SD_BUS_METHOD_WITH_ARGS("CancelWait", SD_BUS_ARGS("u", pid, "s", api_sock),
                                SD_BUS_RESULT("u", cancelled), method_cancel_wait, OPEN),
        SD_BUS_METHOD_WITH_ARGS("Kill", SD_BUS_ARGS("u", pid, "s", api_sock, "a{sv}", options),
                                SD_BUS_NO_RESULT, method_kill, OPEN),
        SD_BUS_METHOD_WITH_ARGS("Shutdown",
                                SD_BUS_ARGS("s", api_sock, "t", grace_usec, "a{sv}", options),
                                SD_BUS_RESULT("s", how, "s", cause, "i", status), method_shutdown,
                                OPEN),
        SD_BUS_METHOD_WITH_ARGS("Subscribe", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                                method_subscribe, OPEN),
        SD_BUS_METHOD_WITH_ARGS("Unsubscribe", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_unsubscribe,
                                OPEN),
        SD_BUS_METHOD_WITH_ARGS("GetUsage", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{sv}", usage),
                                method_get_usage, OPEN),

        SD_BUS_SIGNAL_WITH_ARGS("ProcessAppeared",
                                SD_BUS_ARGS("u", pid, "u", uid, "s", api_sock, "a{sv}", more), 0),
        SD_BUS_SIGNAL_WITH_ARGS("ProcessExited",
                                SD_BUS_ARGS("u", pid, "u", uid, "s", api_sock, "s", cause, "i",
                                            status, "t", exited_usec, "a{sv}", more),
                                0),
        SD_BUS_SIGNAL_WITH_ARGS("WaitTimedOut", SD_BUS_ARGS("u", pid, "s", api_sock, "a{sv}", more),
                                0),
        SD_BUS_SIGNAL_WITH_ARGS("TapCreated",
                                SD_BUS_ARGS("s", tap, "i", ifindex, "u", uid, "a{sv}", more), 0),
        SD_BUS_SIGNAL_WITH_ARGS("TapDeleted",
                                SD_BUS_ARGS("s", tap, "i", ifindex, "u", uid, "a{sv}", more), 0),

        SD_BUS_PROPERTY("Version", "s", property_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("BridgeName", "s", property_bridge_name, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("BridgeAddress", "s", property_bridge_address, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("RuntimeDir", "s", property_runtime_dir, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("FirecrackerBin", "s", property_firecracker_bin, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Features", "as", property_features, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};

sd_bus_message_handler_t interface_handler(const char *method) {
        for (size_t i = 0; i < ELEMENTS(vtable); i++)
                if (vtable[i].type == _SD_BUS_VTABLE_METHOD &&
                    strcmp(vtable[i].x.method.member, method) == 0)
                        return vtable[i].x.method.handler;
        return NULL;
}

int interface_publish(Service *s) {
        return sd_bus_add_object_vtable(s->bus, NULL, FCPROC_PATH, FCPROC_INTERFACE, vtable, s);
}

void interface_properties_changed(Service *s) {
        int r = sd_bus_emit_properties_changed(s->bus, FCPROC_PATH, FCPROC_INTERFACE, "BridgeName",
                                               "BridgeAddress", "RuntimeDir", "FirecrackerBin", NULL);

        if (r < 0)
                log_message(LOG_WARNING, "PropertiesChanged could not be sent: %s",
                            strerrordesc_np(-r));
}
