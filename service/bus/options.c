/* SPDX-License-Identifier: MIT */
/* The a{sv} at the end of every method that changes something. */

#include <string.h>

#include "bus/options.h"
#include "common/failure.h"

static int bad_message(Failure *f) {
        return failure_set(f, FAILURE_INVALID_ARGS,
                           "The options cannot be read; send a dictionary a{sv}");
}

static int read_one(sd_bus_message *m, const Option *options, size_t n, unsigned *seen, Failure *f) {
        char signature[2] = "", known[160] = "";
        const char *key, *contents;
        char type;

        if (sd_bus_message_read(m, "s", &key) < 0)
                return bad_message(f);
        for (size_t i = 0; i < n; i++) {
                if (strcmp(key, options[i].key) != 0)
                        continue;
                if (*seen & (1U << i))
                        return failure_set(f, FAILURE_INVALID_ARGS,
                                           "Option '%s' is given twice; give it once", key);
                *seen |= 1U << i;
                if (sd_bus_message_peek_type(m, &type, &contents) < 0 || type != 'v')
                        return bad_message(f);
                signature[0] = options[i].type;
                if (strcmp(contents, signature) != 0)
                        return failure_set(f, FAILURE_INVALID_ARGS,
                                           "Option '%s' has type '%.20s'; it must be '%s'", key,
                                           contents, signature);
                if (sd_bus_message_read(m, "v", signature, options[i].value) < 0)
                        return bad_message(f);
                if (options[i].present)
                        *options[i].present = 1;
                return 0;
        }
        if (n == 0)
                return failure_set(f, FAILURE_INVALID_ARGS,
                                   "Unknown option '%.40s'; this method has none", key);
        for (size_t i = 0; i < n; i++) {
                (void)strncat(known, i > 0 ? ", " : "", sizeof(known) - strlen(known) - 1);
                (void)strncat(known, options[i].key, sizeof(known) - strlen(known) - 1);
        }
        return failure_set(f, FAILURE_INVALID_ARGS, "Unknown option '%.40s'; this method has %s",
                           key, known);
}

int options_read(sd_bus_message *m, const Option *options, size_t n, Failure *f) {
        unsigned seen = 0;
        int r;

        if (sd_bus_message_enter_container(m, 'a', "{sv}") < 0)
                return bad_message(f);
        for (;;) {
                r = sd_bus_message_enter_container(m, 'e', "sv");
                if (r < 0)
                        return bad_message(f);
                if (r == 0)
                        break;
                r = read_one(m, options, n, &seen, f);
                if (r < 0)
                        return r;
                if (sd_bus_message_exit_container(m) < 0)
                        return bad_message(f);
        }
        return sd_bus_message_exit_container(m) < 0 ? bad_message(f) : 0;
}
