/* SPDX-License-Identifier: MIT */
#pragma once

/* What people read is translated; names, JSON and what a script parses never is. Nor is what the
 * service says, which knows no user's language: it is passed on as it comes, in English. */

#include <libintl.h>
#include <stdbool.h>

#define _(text) gettext(text)
#define N_(text) text /* for tables: translated where it is printed */

/* First of all. */
void i18n_start(void);
/* Whether the output is for people: a program is to read the same in every locale. */
void i18n_for_people(bool people);
