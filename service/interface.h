/* SPDX-License-Identifier: MIT */
#pragma once

#include "service.h"

/* Publishes the object; dbus/org.banger.FcProc.xml is what it must look like. */
int interface_publish(Service *service);
/* After a reload: PropertiesChanged for what it can change. */
void interface_properties_changed(Service *service);
