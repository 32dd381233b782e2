/* SPDX-License-Identifier: MIT */
#pragma once

/* cmocka, which wants these headers before it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
