/* SPDX-License-Identifier: MIT */
#pragma once

/* What people read is translated; names, JSON and what a script parses never is. */

#include <libintl.h>

#define _(text) gettext(text)
#define N_(text) text /* for tables: translated where it is printed */
