/* SPDX-License-Identifier: MIT */
/* fcprocctl(1): the command line client of org.banger.FcProc. From here it goes to arguments.c,
 * which understands the command line, to the verb's handler as the table in verbs.c has it, and
 * back here to end. */

#include <fcntl.h>
#include <signal.h>

#include "arguments.h"
#include "connection.h"
#include "i18n.h"
#include "output.h"

/* A connection that was given the number of a closed stdout would be printed into. What is opened
 * here in its place cannot be written to, so that it is noticed. */
static void hold_standard_descriptors(void) {
        for (int fd = 0; fd <= 2; fd++)
                if (fcntl(fd, F_GETFD) < 0)
                        (void)open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

int main(int argc, char *argv[]) {
        Ctl ctl = {};
        char **arguments = NULL;
        int n = 0, code;

        hold_standard_descriptors();
        i18n_start();
        (void)signal(SIGPIPE, SIG_IGN);
        /* who ignores it, and handed that down, would have our children reaped behind our back */
        (void)signal(SIGCHLD, SIG_DFL);
        if (argc < 1)
                return CODE_USAGE;
        code = arguments_read(&ctl, argc, argv, &n, &arguments);
        if (code < 0)
                code = ctl.verb->run(&ctl, n, arguments);
        ctl_disconnect(&ctl);
        return output_end(&ctl, code);
}
