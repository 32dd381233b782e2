/* SPDX-License-Identifier: MIT */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* The errors org.banger.FcProc.Error.* as GErrors: every call through GDBus, by the stub or not, fails
 * in this domain as soon as the library is loaded; nothing has to be called for it.
 *
 *     if (g_error_matches(error, FCPROC_ERROR, FCPROC_ERROR_WAIT_FOR_EXIT_TIMEOUT))
 *
 * InvalidArgs, AccessDenied, LimitsExceeded and NoMemory are the bus's own, in G_DBUS_ERROR; GLib has
 * no code for InteractiveAuthorizationRequired (like AccessDenied, but it could be had by asking): ask
 * g_dbus_error_get_remote_error(). */
#define FCPROC_ERROR (fcproc_error_quark())

/* The numbers are ABI: new ones go to the end. */
typedef enum {
        FCPROC_ERROR_BINARY_NOT_CONFIGURED, /* no Firecracker is configured */
        FCPROC_ERROR_BINARY_NOT_FOUND,      /* the one that is configured is not there */
        FCPROC_ERROR_SOCKET_NOT_READY,      /* not there in time, or nothing listens on it */
        FCPROC_ERROR_NO_SUCH_PROCESS,       /* nobody listens on the socket, or it is gone */
        FCPROC_ERROR_NOT_A_VMM,             /* a process, but no VMM */
        FCPROC_ERROR_NO_SUCH_TAP,
        FCPROC_ERROR_NO_SUCH_BRIDGE,
        FCPROC_ERROR_NOT_OURS,              /* an interface that the service did not make */
        FCPROC_ERROR_IN_USE,                /* a bridge with ports, a guest-mac that is taken */
        FCPROC_ERROR_WAIT_FOR_EXIT_TIMEOUT, /* the deadline passed, the process lives */
        FCPROC_ERROR_CANCELLED,             /* by CancelWait */
        FCPROC_ERROR_VMM_REFUSED,           /* the VMM answered with a fault */
        FCPROC_ERROR_VMM_UNREACHABLE,       /* no valid answer, or busy: try again */
        FCPROC_ERROR_KERNEL_REFUSED,        /* the message has the step and the reason */
        FCPROC_ERROR_NOT_SUPPORTED,         /* this kernel cannot */
} FcprocError;

GQuark fcproc_error_quark(void);

G_END_DECLS
