/* SPDX-License-Identifier: MIT */
/* What the checks of doctor share. */
#pragma once

#include <stdbool.h>

#include "ctl.h"

typedef enum Result {
        RESULT_OK,
        RESULT_WARN,
        RESULT_FAIL
} Result;

typedef struct Doctor {
        Ctl *ctl;
        bool service; /* it answers */
        char *bridge, *firecracker;
        char text[256], next[256];
} Doctor;

/* What a check found, and, where that is not ok, what to do next. */
void say(Doctor *d, const char *format, ...) _printf_(2, 3);
void next(Doctor *d, const char *format, ...) _printf_(2, 3);

/* The first line of a file; false where there is none. */
bool read_line(const char *path, char *ret, size_t size);
/* What a program prints, as long as no two seconds pass without; false if that is nothing. */
bool read_output(const char *const argv[], char *ret, size_t size);

Result check_forward(Doctor *d);
Result check_isolation(Doctor *d);
