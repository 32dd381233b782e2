/* SPDX-License-Identifier: MIT */
#pragma once

/* What libFuzzer calls; without it fuzz-main.c does. */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input as a string, cut at a NUL byte; to be freed. */
static inline char *fuzz_text(const uint8_t *data, size_t size) {
        char *text = malloc(size + 1); /* data does not end in a NUL: no str…() may look at it */

        if (!text)
                abort();
        if (size > 0)
                memcpy(text, data, size);
        text[size] = '\0';
        return text;
}
