/* SPDX-License-Identifier: MIT */
#pragma once

/* One handler for each method; interface.c has the table. userdata is the Service. */

#include <systemd/sd-bus.h>

#define METHOD(name) int method_##name(sd_bus_message *m, void *userdata, sd_bus_error *error)

/* methods-bridge.c */
METHOD(ensure_bridge);
METHOD(remove_bridge);

/* methods-tap.c */
METHOD(create_tap);
METHOD(delete_tap);
METHOD(list_taps);

/* methods-socket.c */
METHOD(ensure_socket_dir);
METHOD(ensure_socket_access);
METHOD(resolve_binary);
METHOD(send_ctrl_alt_del);

/* methods-process.c */
METHOD(find_pid);
METHOD(resolve_pid);
METHOD(open_process);
METHOD(list_processes);
METHOD(wait_for_exit);
METHOD(watch_exit);
METHOD(cancel_wait);
METHOD(kill);
METHOD(shutdown);
METHOD(subscribe);
METHOD(unsubscribe);
METHOD(get_usage);

#undef METHOD
