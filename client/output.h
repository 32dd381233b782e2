/* SPDX-License-Identifier: MIT */
#pragma once

/* stdout, and the one line on a terminal that tells what is being waited for. */

#include <json-c/json.h>
#include <stdio.h>

#include "ctl.h"

typedef enum Colour {
        COLOUR_NONE,
        COLOUR_GOOD,
        COLOUR_WARN,
        COLOUR_BAD,
        COLOUR_HEAD
} Colour;

/* The sequence that switches to it; "" where the stream is no terminal or NO_COLOR is set. */
const char *output_colour(FILE *stream, Colour colour);

int output_json_flags(const Ctl *ctl);
/* Prints it and lets it go; one line unless it is to be pretty. */
void output_json(const Ctl *ctl, json_object *o);
void output_json_line(const Ctl *ctl, json_object *o); /* always one line: for streams */
/* A line for people, fit for a terminal: nothing with JSON. */
void output_line(const Ctl *ctl, const char *format, ...) _printf_(2, 3);
/* The same for what has colours of ours in it, or several lines. */
void output_text(const Ctl *ctl, const char *format, ...) _printf_(2, 3);

/* A table of text; cells are copied, and made fit for a terminal. The first row is the legend. */
typedef struct Table Table;
Table *table_new(size_t columns);
void table_free(Table *t);
void table_add(Table *t, const char *format, ...) _printf_(2, 3);
/* Aligned; what is counted ("2 taps") goes below, unless there is no legend. */
void table_print(const Ctl *ctl, Table *t, const char *count, ...) _printf_(3, 4);
/* How many columns of a terminal it takes. */
int output_width(const char *text);

/* What follows goes through a pager, if stdout is a terminal and nobody objects. */
void output_page(const Ctl *ctl);

/* The line on stderr that is written over; only on a terminal. True if it is shown. */
bool output_status(const Ctl *ctl, const char *format, ...) _printf_(2, 3);
void output_status_clear(void);

/* Nobody reads any more, or it cannot be written. */
bool output_broken(void);
/* Flushes, ends the pager; returns code, or CODE_FAILED if the output could not be written. */
int output_end(const Ctl *ctl, int code);
