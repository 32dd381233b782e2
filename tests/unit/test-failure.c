/* SPDX-License-Identifier: MIT */
/* Guards common/failure.c and service/bus/errors.c: every kind of failure has a name of its own on the
 * bus, none is System.Error.*, and its text is always valid UTF-8 that fits. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bus/errors.h"
#include "common/text.h"
#include "common/validate.h"
#include "unit.h"

static void names(void **state) {
        static const char *const expected[_FAILURE_KINDS] = {
                [FAILURE_NONE] = "org.freedesktop.DBus.Error.Failed",
                [FAILURE_INVALID_ARGS] = "org.freedesktop.DBus.Error.InvalidArgs",
                [FAILURE_ACCESS_DENIED] = "org.freedesktop.DBus.Error.AccessDenied",
                [FAILURE_INTERACTION_REQUIRED] = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
                [FAILURE_LIMITS_EXCEEDED] = "org.freedesktop.DBus.Error.LimitsExceeded",
                [FAILURE_NO_MEMORY] = "org.freedesktop.DBus.Error.NoMemory",
                [FAILURE_BINARY_NOT_CONFIGURED] = "org.banger.FcProc.Error.BinaryNotConfigured",
                [FAILURE_BINARY_NOT_FOUND] = "org.banger.FcProc.Error.BinaryNotFound",
                [FAILURE_SOCKET_NOT_READY] = "org.banger.FcProc.Error.SocketNotReady",
                [FAILURE_NO_SUCH_PROCESS] = "org.banger.FcProc.Error.NoSuchProcess",
                [FAILURE_NOT_A_VMM] = "org.banger.FcProc.Error.NotAVmm",
                [FAILURE_NO_SUCH_TAP] = "org.banger.FcProc.Error.NoSuchTap",
                [FAILURE_NO_SUCH_BRIDGE] = "org.banger.FcProc.Error.NoSuchBridge",
                [FAILURE_NOT_OURS] = "org.banger.FcProc.Error.NotOurs",
                [FAILURE_IN_USE] = "org.banger.FcProc.Error.InUse",
                [FAILURE_WAIT_FOR_EXIT_TIMEOUT] = "org.banger.FcProc.Error.WaitForExitTimeout",
                [FAILURE_CANCELLED] = "org.banger.FcProc.Error.Cancelled",
                [FAILURE_VMM_REFUSED] = "org.banger.FcProc.Error.VmmRefused",
                [FAILURE_VMM_UNREACHABLE] = "org.banger.FcProc.Error.VmmUnreachable",
                [FAILURE_KERNEL_REFUSED] = "org.banger.FcProc.Error.KernelRefused",
                [FAILURE_NOT_SUPPORTED] = "org.banger.FcProc.Error.NotSupported",
        };

        for (int kind = 0; kind < _FAILURE_KINDS; kind++) {
                Failure f;

                assert_non_null(expected[kind]);
                (void)failure_set(&f, (FailureKind)kind, "text %d", kind);
                assert_string_equal(errors_name(f.kind), expected[kind]);
        }
        for (const int *kind = (const int[]){_FAILURE_KINDS, 1000, -1, 0}; *kind; kind++)
                assert_string_equal(errors_name((FailureKind)*kind), expected[FAILURE_NONE]);
}

static void sets(void **state) {
        Failure f;

        assert_int_equal(failure_set(&f, FAILURE_IN_USE, "%s is in use by %d", "br0", 3),
                         -FAILURE_IN_USE);
        assert_int_equal(f.kind, FAILURE_IN_USE);
        assert_string_equal(f.text, "br0 is in use by 3");
        assert_int_equal(failure_oom(&f), -FAILURE_NO_MEMORY);
        assert_int_equal(f.kind, FAILURE_NO_MEMORY);
        assert_non_null(strstr(f.text, "memory"));
}

static void quotes_anything(void **state) {
        char input[2048];
        unsigned seed = 1;
        Failure f;

        for (int round = 0; round < 2000; round++) {
                size_t n = (size_t)rand_r(&seed) % (sizeof(input) - 1);

                for (size_t i = 0; i < n; i++)
                        input[i] = (char)(1 + rand_r(&seed) % 255);
                input[n] = '\0';
                assert_int_equal(failure_set(&f, FAILURE_VMM_REFUSED, "%s", input),
                                 -FAILURE_VMM_REFUSED);
                for (size_t i = 0, left = strlen(f.text); left > 0;) {
                        size_t k = utf8_sequence(f.text + i, left);

                        assert_true(k > 0);
                        i += k;
                        left -= k;
                }
        }
}

static void a_name_at_the_cut(void **state) {
        char input[700];
        Failure f;

        memset(input, 'x', sizeof(input));
        memcpy(input + 637, "\xe2\x82\xac\xe2\x82\xac", 7); /* two characters across the end */
        (void)failure_set(&f, FAILURE_VMM_REFUSED, "%s", input);
        assert_true(strlen(f.text) < sizeof(f.text));
        for (size_t i = 0; f.text[i];) {
                size_t k = utf8_sequence(f.text + i, strlen(f.text + i));

                assert_true(k > 0);
                i += k;
        }
}

static void kernel_errors(void **state) {
        Failure f;

        assert_int_equal(failure_kernel(&f, -EPERM, NULL, "Tap %s: creating it", "tap0"),
                         -FAILURE_KERNEL_REFUSED);
        assert_string_equal(f.text, "Tap tap0: creating it: Operation not permitted");
        assert_int_equal(failure_kernel(&f, EPERM, "", "step"), -FAILURE_KERNEL_REFUSED);
        assert_string_equal(f.text, "step: Operation not permitted");
        assert_int_equal(failure_kernel(&f, -EINVAL, "Name too long", "step"),
                         -FAILURE_KERNEL_REFUSED);
        assert_string_equal(f.text, "step: Invalid argument (Name too long)");
        assert_int_equal(failure_kernel(&f, -ENOMEM, "more", "step"), -FAILURE_NO_MEMORY);
        assert_int_equal(failure_kernel(&f, -EOPNOTSUPP, NULL, "step"), -FAILURE_NOT_SUPPORTED);
        assert_int_equal(failure_kernel(&f, -ENOSYS, NULL, "step"), -FAILURE_NOT_SUPPORTED);
        for (int error = 1; error < 133; error++) {
                assert_true(failure_kernel(&f, -error, NULL, "step") < 0);
                assert_true(strlen(f.text) > 0);
        }
        (void)failure_kernel(&f, -524, NULL,
                             "step"); /* the kernel's own ENOTSUPP, which libc does not know */
        assert_null(strstr(f.text, "null"));
        assert_non_null(strstr(f.text, "524"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(names),           cmocka_unit_test(sets),
                cmocka_unit_test(quotes_anything), cmocka_unit_test(a_name_at_the_cut),
                cmocka_unit_test(kernel_errors),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
