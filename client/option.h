/* SPDX-License-Identifier: MIT */
#pragma once

/* The options: one row each, in option.c. The command line is read by it, and the help is printed
 * from it, which the manual page and the completions are made of. */

#include "ctl.h"

typedef struct Option Option;

/* Stores what stands in value (NULL: the option takes none) where the row says. Returns -1, or the
 * exit code with which everything ends here. */
typedef int (*OptionReader)(Ctl *ctl, const Option *o, void *field, const char *value);

struct Option {
        const char *name;  /* behind "--"; NULL: there is only a letter */
        char letter;       /* 0: none */
        const char *value; /* what stands for its value in the help; NULL: it takes none */
        unsigned group;    /* OPTION_ bit: which verbs take it; 0: all */
        OptionReader read;
        size_t field, have; /* in Ctl: where it goes, and the flag that it was given; 0: none */
        const char *help;   /* for people, "\n" where a line ends */
        char type; /* of the method's option of that name, in the signature's letters; 0: none */
};

extern const Option options[]; /* ended by a row without a reader */

/* All of them, in the order of the command line, are read; what is no option is moved behind them.
 * Returns -1, or an exit code. */
int option_read_all(Ctl *ctl, int argc, char *argv[]);
/* The first one that was given and is not of these groups, NULL if there is none. */
const Option *option_stray(const Ctl *ctl, unsigned groups);

/* Those of these groups that were given and are options of the method too, as a{sv}. As sd-bus. */
int option_append(const Ctl *ctl, unsigned groups, sd_bus_message *m);

/* The lines of --help about those of these groups; 0: those that all verbs take. */
void option_help(unsigned groups);
