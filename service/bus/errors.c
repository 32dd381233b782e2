/* SPDX-License-Identifier: MIT */
/* Every error name that leaves the service, and the one place where a domain failure becomes a
 * D-Bus error. A handler never returns a bare errno: sd-bus would make System.Error.* of it. */

#include <errno.h>

#include "bus/errors.h"
#include "common/cleanup.h"

#define FCPROC_ERROR "org.banger.FcProc.Error."

static const char *const error_names[_FAILURE_KINDS] = {
        [FAILURE_NONE] = SD_BUS_ERROR_FAILED,
        [FAILURE_INVALID_ARGS] = SD_BUS_ERROR_INVALID_ARGS,
        [FAILURE_ACCESS_DENIED] = SD_BUS_ERROR_ACCESS_DENIED,
        [FAILURE_INTERACTION_REQUIRED] = SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
        [FAILURE_LIMITS_EXCEEDED] = SD_BUS_ERROR_LIMITS_EXCEEDED,
        [FAILURE_NO_MEMORY] = SD_BUS_ERROR_NO_MEMORY,
        [FAILURE_BINARY_NOT_CONFIGURED] = FCPROC_ERROR "BinaryNotConfigured",
        [FAILURE_BINARY_NOT_FOUND] = FCPROC_ERROR "BinaryNotFound",
        [FAILURE_SOCKET_NOT_READY] = FCPROC_ERROR "SocketNotReady",
        [FAILURE_NO_SUCH_PROCESS] = FCPROC_ERROR "NoSuchProcess",
        [FAILURE_NOT_A_VMM] = FCPROC_ERROR "NotAVmm",
        [FAILURE_NO_SUCH_TAP] = FCPROC_ERROR "NoSuchTap",
        [FAILURE_NO_SUCH_BRIDGE] = FCPROC_ERROR "NoSuchBridge",
        [FAILURE_NOT_OURS] = FCPROC_ERROR "NotOurs",
        [FAILURE_IN_USE] = FCPROC_ERROR "InUse",
        [FAILURE_WAIT_FOR_EXIT_TIMEOUT] = FCPROC_ERROR "WaitForExitTimeout",
        [FAILURE_CANCELLED] = FCPROC_ERROR "Cancelled",
        [FAILURE_VMM_REFUSED] = FCPROC_ERROR "VmmRefused",
        [FAILURE_VMM_UNREACHABLE] = FCPROC_ERROR "VmmUnreachable",
        [FAILURE_KERNEL_REFUSED] = FCPROC_ERROR "KernelRefused",
        [FAILURE_NOT_SUPPORTED] = FCPROC_ERROR "NotSupported",
};

const char *errors_name(FailureKind kind) {
        if ((unsigned)kind >= ELEMENTS(error_names))
                kind = FAILURE_NONE;
        return error_names[kind];
}

int errors_reply(sd_bus_message *m, const Failure *f) {
        (void)sd_bus_reply_method_errorf(m, errors_name(f->kind), "%s", f->text);
        return 1;
}
