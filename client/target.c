/* SPDX-License-Identifier: MIT */
/* SOCKET and SOCKET|PID. A bare name is short for NAME.sock in the caller's own directory: which
 * that is, only the service knows (it can be configured, and with -H it is another host's). All
 * digits are never a name, so that "kill 4711" cannot mean two things. */

#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "common/validate.h"
#include "connection.h"
#include "i18n.h"
#include "report.h"
#include "target.h"
#include "text.h"

int target_parse(const Ctl *ctl, const char *typed, bool pid_allowed, Target *ret) {
        uint64_t pid = 0;

        *ret = (Target){.typed = typed};
        if (*typed && strspn(typed, "0123456789") == strlen(typed)) {
                if (!pid_allowed)
                        return report_usage(ctl,
                                            _("'%.40s' is no socket; %s takes a path or the name of a VM"),
                                            typed, ctl->verb->name);
                if (!number_parse(typed, INT32_MAX, &pid) || pid == 0)
                        return report_usage(ctl, _("'%.40s' is no process ID; give one from 1 to %d"),
                                            typed, INT32_MAX);
                ret->pid = (uint32_t)pid;
                return CODE_DONE;
        }
        if (strchr(typed, '/')) {
                if (!path_valid(typed) || utf8_sequence(typed, 1) != 1)
                        return report_usage(ctl,
                                            _("'%.100s' is no path of a socket; give an absolute one without "
                                              "'.', '..' and '//', or the bare name of a VM"),
                                            typed);
                ret->path = strdup(typed);
                if (!ret->path)
                        abort();
                return CODE_DONE;
        }
        if (vm_name_valid(typed))
                return CODE_DONE;
        return report_usage(ctl,
                            _("'%.40s' is no name of a VM; give one like 'web', or the path of its socket"),
                            typed);
}

int target_locate(Ctl *ctl, Target *target) {
        size_t n = strlen(target->typed);
        int code;

        if (target->path || target->pid > 0)
                return CODE_DONE;
        code = ctl_whereabouts(ctl);
        if (code != CODE_DONE)
                return code;
        if (asprintf(&target->path, "%s/%u/%s%s", ctl->runtime_dir, ctl->uid, target->typed,
                     n > 5 && strcmp(target->typed + n - 5, ".sock") == 0 ? "" : ".sock") < 0)
                abort();
        return CODE_DONE;
}

void target_done(Target *target) {
        free(target->path);
        target->path = NULL;
}
