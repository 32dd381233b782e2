/* SPDX-License-Identifier: MIT */
#pragma once

#include "service.h"

/* The handler of a method of ours, as the bus dispatches it. */
sd_bus_message_handler_t interface_handler(const char *method);
/* Publishes the object; dbus/org.banger.FcProc.xml is what it must look like. */
int interface_publish(Service *service);
/* After a reload: PropertiesChanged for what it can change. */
void interface_properties_changed(Service *service);
