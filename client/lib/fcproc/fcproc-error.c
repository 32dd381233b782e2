/* SPDX-License-Identifier: MIT */
#include <gio/gio.h>

#include "fcproc-error.h"

#define NAME "org.banger.FcProc.Error."

static const GDBusErrorEntry entries[] = {
        {FCPROC_ERROR_BINARY_NOT_CONFIGURED, NAME "BinaryNotConfigured"},
        {FCPROC_ERROR_BINARY_NOT_FOUND, NAME "BinaryNotFound"},
        {FCPROC_ERROR_SOCKET_NOT_READY, NAME "SocketNotReady"},
        {FCPROC_ERROR_NO_SUCH_PROCESS, NAME "NoSuchProcess"},
        {FCPROC_ERROR_NOT_A_VMM, NAME "NotAVmm"},
        {FCPROC_ERROR_NO_SUCH_TAP, NAME "NoSuchTap"},
        {FCPROC_ERROR_NO_SUCH_BRIDGE, NAME "NoSuchBridge"},
        {FCPROC_ERROR_NOT_OURS, NAME "NotOurs"},
        {FCPROC_ERROR_IN_USE, NAME "InUse"},
        {FCPROC_ERROR_WAIT_FOR_EXIT_TIMEOUT, NAME "WaitForExitTimeout"},
        {FCPROC_ERROR_CANCELLED, NAME "Cancelled"},
        {FCPROC_ERROR_VMM_REFUSED, NAME "VmmRefused"},
        {FCPROC_ERROR_VMM_UNREACHABLE, NAME "VmmUnreachable"},
        {FCPROC_ERROR_KERNEL_REFUSED, NAME "KernelRefused"},
        {FCPROC_ERROR_NOT_SUPPORTED, NAME "NotSupported"},
};

GQuark fcproc_error_quark(void) {
        static gsize quark;

        g_dbus_error_register_error_domain("fcproc-error-quark", &quark, entries,
                                           G_N_ELEMENTS(entries));
        return (GQuark)quark;
}

/* GDBus makes the GError when the reply arrives, often before the program first says FCPROC_ERROR, and
 * an error that came before the registration stays a G_IO_ERROR_DBUS_ERROR for good. So it is done when
 * the library is loaded. The generated proxy has no place for it, and a constructor of our own would
 * not cover the generated ones, nor the calls of those who use a GDBusConnection. It is fifteen entries
 * in a table of GLib, whose own constructors have run by then: we are linked with it. What GLib keeps
 * points into this library, which is therefore never unloaded (-z nodelete). */
__attribute__((constructor)) static void register_domain(void) {
        (void)fcproc_error_quark();
}
