/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target without libFuzzer: over the files that are named, or, without any, for 2 s over
 * random bytes that are the same each time. Guards what the target guards. */

#include <stdio.h>
#include <time.h>

#include "fuzz.h"

static int run_file(const char *name) {
        FILE *stream = fopen(name, "re");
        static uint8_t data[1024 * 1024];
        size_t n;

        if (!stream) {
                perror(name);
                return 1;
        }
        n = fread(data, 1, sizeof(data), stream);
        (void)fclose(stream);
        (void)LLVMFuzzerTestOneInput(data, n);
        return 0;
}

int main(int argc, char *argv[]) {
        time_t end = time(NULL) + 2;
        unsigned seed = 1, rounds = 0;
        int failed = 0;

        for (int i = 1; i < argc; i++)
                failed |= run_file(argv[i]);
        if (argc > 1)
                return failed;
        for (; time(NULL) < end; rounds++) {
                uint8_t data[512];
                size_t n = (size_t)rand_r(&seed) % sizeof(data);
                bool text = rand_r(&seed) & 1;

                for (size_t i = 0; i < n; i++)
                        data[i] = (uint8_t)(text ? 0x20 + rand_r(&seed) % 0x5f : rand_r(&seed));
                (void)LLVMFuzzerTestOneInput(data, n);
        }
        (void)printf("%u inputs\n", rounds);
        return 0;
}
