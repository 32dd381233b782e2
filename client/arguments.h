/* SPDX-License-Identifier: MIT */
#pragma once

#include "ctl.h"

/* Understands the command line; *ret_arguments are the verb's, *ret_n their number. Returns an exit
 * code, having said what is wrong, or -1 to go on; 0 if --help or --version was all that was wanted. */
int arguments_read(Ctl *ctl, int argc, char *argv[], int *ret_n, char ***ret_arguments);
