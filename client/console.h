/* SPDX-License-Identifier: MIT */
#pragma once

/* The console of a VMM that is our child: its stdin and stdout, between it and our own.
 *
 * What the guest prints goes straight to where our stdout goes. What is typed passes through us, so
 * that Ctrl-C stays ours; every other key is the guest's. */

#include <termios.h>

#include "ctl.h"

typedef struct Console {
        int vmm_in, vmm_out; /* what becomes the VMM's stdin and stdout */
        int keys;            /* where to write what is typed; -1: stdin is no terminal of ours */
        int out;             /* where its stdout leads: ours, or stderr */
        int in_flags, out_flags; /* of our stdin and that */
        bool taken;
        struct termios state;
} Console;

#define CONSOLE_NONE \
  ((Console){.vmm_in = -1, .vmm_out = -1, .keys = -1, .in_flags = -1, .out_flags = -1})

/* A negative errno. With JSON, stdout is for that, and the console goes to stderr. */
int console_open(const Ctl *ctl, Console *c);
/* The VMM has its ends: lets go of them, and takes the terminal. */
void console_take(Console *c);
/* Passes on what was typed; false at the end of it. */
bool console_pass(Console *c);
/* The terminal is as it was, and what was typed for the guest is nobody else's. */
void console_close(Console *c);
