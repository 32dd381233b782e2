/* SPDX-License-Identifier: MIT */
/* The command line as a whole. Options (option.c) go anywhere, those of a verb too; which verb
 * takes which, and how many arguments, is in the table of verbs. */

#include <getopt.h> /* optind */
#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "i18n.h"
#include "option.h"
#include "output.h"
#include "report.h"

static int help(Ctl *ctl) {
        output_page(ctl);
        if (ctl->verb) {
                (void)printf("fcprocctl [OPTIONS...] %s%s%s\n\n%s.\n\n", ctl->verb->name,
                             *ctl->verb->arguments ? " " : "", ctl->verb->arguments,
                             _(ctl->verb->help));
                if (ctl->verb->options)
                        option_help(ctl->verb->options);
                option_help(0);
                (void)printf("\nJSON: %s\n", ctl->verb->shape);
                return CODE_DONE;
        }
        (void)printf("fcprocctl [OPTIONS...] VERB [ARGUMENTS...]\n\n%s\n\n",
                     _("The host's side of Firecracker microVMs: bridge, taps, sockets, processes."));
        for (const Verb *v = verbs; v->name; v++)
                (void)printf("  %-20s %-16s %s\n", v->name, v->arguments, _(v->help));
        (void)printf("\n%s\n",
                     _("SOCKET is the path of a Firecracker API socket, or a VM's bare name, which\n"
                       "stands for NAME.sock in your own directory.\n"));
        option_help(0);
        (void)printf("\n%s\n%s",
                     _("Exit codes: 0 done, 1 failed, 2 usage, 4 not permitted, 7 no service, 10 no such\n"
                       "object, 12 timed out; of several objects the first failure's.\n"),
                     _("See the fcprocctl(1) man page for details.\n"));
        return CODE_DONE;
}

static int find_verb(Ctl *ctl, const char *name) {
        const Verb *near;

        ctl->verb = verb_find(name);
        if (ctl->verb)
                return -1;
        near = verb_nearest(name);
        if (near)
                return report_usage(ctl, _("'%.40s' is no verb of fcprocctl; did you mean '%s'?"),
                                    name, near->name);
        return report_usage(ctl, _("'%.40s' is no verb of fcprocctl; see fcprocctl --help"), name);
}

int arguments_read(Ctl *ctl, int argc, char *argv[], int *ret_n, char ***ret_arguments) {
        const Option *stray;
        int r;

        r = option_read_all(ctl, argc, argv);
        if (r >= 0)
                return r;
        /* as git and others have it; "help VERB" is "VERB --help" */
        if (optind < argc && strcmp(argv[optind], "help") == 0) {
                ctl->help = true;
                optind++;
        }
        if (optind < argc) {
                r = find_verb(ctl, argv[optind++]);
                if (r >= 0)
                        return r;
        }
        if (ctl->help)
                return help(ctl);
        if (!ctl->verb)
                return report_usage(
                        ctl, _("What is to be done? Give a verb, like 'list'; see fcprocctl --help"));
        if (ctl->host && ctl->machine)
                return report_usage(ctl, _("--host and --machine exclude each other"));
        stray = option_stray(ctl, ctl->verb->options);
        if (stray)
                return report_usage(ctl, _("%s does not take --%s; see fcprocctl %s --help"),
                                    ctl->verb->name, stray->name, ctl->verb->name);
        *ret_n = argc - optind;
        *ret_arguments = argv + optind;
        if (*ret_n < ctl->verb->min || (ctl->verb->max >= 0 && *ret_n > ctl->verb->max))
                return *ctl->verb->arguments
                               ? report_usage(ctl, _("%s takes %s; see fcprocctl %s --help"),
                                              ctl->verb->name, ctl->verb->arguments, ctl->verb->name)
                               : report_usage(ctl,
                                              _("%s takes no arguments; see fcprocctl %s --help"),
                                              ctl->verb->name, ctl->verb->name);
        return -1;
}
