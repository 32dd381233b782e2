/* SPDX-License-Identifier: MIT */
#pragma once

/* Text that somebody else wrote: a name, a VMM's fault. It may be anything. */

#include <stdbool.h>
#include <stddef.h>

/* Copies text into at most size bytes: valid UTF-8 stays, control characters become spaces,
 * broken bytes U+FFFD. The result always ends at a character boundary. */
void text_make_printable(const char *text, char *ret, size_t size);
/* The same, but newlines and tabs stay: for messages that pass on what a VMM said. */
void text_make_valid(const char *text, char *ret, size_t size);

/* The length of the valid UTF-8 sequence at s, 0 where there is none. */
size_t utf8_sequence(const char *s, size_t available);
/* Whether the sequence of n bytes at s is a control character. */
bool text_is_control(const char *s, size_t n);
