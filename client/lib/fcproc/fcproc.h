/* SPDX-License-Identifier: MIT */
#pragma once

/* libfcproc: org.banger.FcProc for programs with GLib. Two parts: the stub, which gdbus-codegen made of
 * org.banger.FcProc.xml (fcproc-stub.h), and the errors as a GError domain (fcproc-error.h). What the
 * methods do is in org.banger.FcProc(5). The interface is called FcprocService here:
 *
 *     FcprocService *service = fcproc_service_proxy_new_for_bus_sync(
 *             G_BUS_TYPE_SYSTEM, G_DBUS_PROXY_FLAGS_NONE, FCPROC_BUS_NAME, FCPROC_OBJECT_PATH,
 *             NULL, &error);
 *
 * For each method M there are fcproc_service_call_M(), its _finish() and, for those who may block, its
 * _sync(); for each signal S a GObject signal of the proxy; for each property P fcproc_service_get_P(),
 * which answers from a cache. Signals come after Subscribe or WatchExit, and go to the connection that
 * asked; when the service was restarted, which "notify::g-name-owner" tells, ask again.
 *
 * Timeouts: with -1 for timeout_msec GDBus gives up after 25 s, although the service is still at it.
 * Calls that wait (WaitForExit, Shutdown, EnsureSocketAccess and SendCtrlAltDel, and anything with
 * G_DBUS_CALL_FLAGS_ALLOW_INTERACTIVE_AUTHORIZATION, where a person types a password) take
 * FCPROC_NO_TIMEOUT, and the limit in the method's own argument, in microseconds.
 *
 * Options: never NULL, but an a{sv}; FCPROC_NO_OPTIONS is an empty one. A floating one, as g_variant_new()
 * makes it, is consumed by the call. */

#include <fcproc/fcproc-error.h>
#include <fcproc/fcproc-stub.h>

#define FCPROC_BUS_NAME "org.banger.FcProc"
#define FCPROC_OBJECT_PATH "/org/banger/FcProc"

#define FCPROC_NO_TIMEOUT G_MAXINT /* for timeout_msec: no limit on this side */
#define FCPROC_FOREVER G_MAXUINT64 /* for timeout_usec, grace_usec */
#define FCPROC_NO_OPTIONS (g_variant_new("a{sv}", NULL))
