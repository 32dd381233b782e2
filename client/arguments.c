/* SPDX-License-Identifier: MIT */
/* The command line. Options go anywhere, those of a verb too; which verb takes which is in the
 * table of verbs. All values are checked here, before there is a bus: a number that makes no sense
 * is a usage error on a host without the service as well. Arguments can be of any length, so
 * messages quote no more than their beginnings. */

#include <getopt.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "i18n.h"
#include "output.h"
#include "report.h"
#include "text.h"
#include "validate.h"

enum {
        ARG_VERSION = 256,
        ARG_JSON,
        ARG_NO_LEGEND,
        ARG_NO_PAGER,
        ARG_NO_ASK_PASSWORD,
        ARG_TIMEOUT,
        ARG_GRACE,
        ARG_FORCE,
        ARG_DRY_RUN,
        ARG_TUN_UID,
        ARG_TUN_GID,
        ARG_GUEST_MAC,
        ARG_NO_ISOLATION,
        ARG_ISOLATED,
        ARG_MTU,
        ARG_AUTO_DELETE,
        ARG_CONFIG_FILE,
};

static const struct option options[] = {
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, ARG_VERSION},
        {"host", required_argument, NULL, 'H'},
        {"machine", required_argument, NULL, 'M'},
        {"json", required_argument, NULL, ARG_JSON},
        {"no-legend", no_argument, NULL, ARG_NO_LEGEND},
        {"no-pager", no_argument, NULL, ARG_NO_PAGER},
        {"quiet", no_argument, NULL, 'q'},
        {"no-ask-password", no_argument, NULL, ARG_NO_ASK_PASSWORD},
        {"timeout", required_argument, NULL, ARG_TIMEOUT},
        {"grace", required_argument, NULL, ARG_GRACE},
        {"force", no_argument, NULL, ARG_FORCE},
        {"dry-run", no_argument, NULL, ARG_DRY_RUN},
        {"tun-uid", required_argument, NULL, ARG_TUN_UID},
        {"tun-gid", required_argument, NULL, ARG_TUN_GID},
        {"guest-mac", required_argument, NULL, ARG_GUEST_MAC},
        {"no-isolation", no_argument, NULL, ARG_NO_ISOLATION},
        {"isolated", required_argument, NULL, ARG_ISOLATED},
        {"mtu", required_argument, NULL, ARG_MTU},
        {"auto-delete", no_argument, NULL, ARG_AUTO_DELETE},
        {"config-file", required_argument, NULL, ARG_CONFIG_FILE},
        {},
};

static const char common_help[] = N_(
        "  -h, --help             Show this, or with a verb what it takes and prints\n"
        "      --version          Show the version\n"
        "  -H, --host=[USER@]HOST Ask the service of another host, through ssh\n"
        "  -M, --machine=NAME     Ask the service in a local container\n"
        "      --json=MODE        JSON: short (one line), pretty, off\n"
        "  -j                     The same as --json=short\n"
        "      --no-legend        Tables without headings and counts\n"
        "      --no-pager         No pager for long lists\n"
        "  -q, --quiet            Print only what was asked for, and errors\n"
        "      --no-ask-password  Never ask for a password\n");

static const struct {
        unsigned option;
        const char *text;
} verb_help[] = {
        {OPTION_TIMEOUT,
         N_("      --timeout=SPAN     How long to wait: 90 (seconds), 5min, 1h 30s, infinity; 0 only looks\n")},
        {OPTION_GRACE,
         N_("      --grace=SPAN       How long a guest may take (30s); 0 kills at once, infinity never\n")},
        {OPTION_FORCE, N_("      --force            Kill a paused VM too\n")},
        {OPTION_TAP,
         N_("      --tun-uid=USER     Who may attach to the tap (you)\n"
            "      --tun-gid=GID      The group that may (none)\n"
            "      --guest-mac=MAC    Nothing else may be sent from it\n"
            "      --isolated=BOOL    Keep it from other isolated taps (as configured)\n"
            "      --no-isolation     The same as --isolated=no\n"
            "      --mtu=BYTES        Its MTU (the bridge's)\n"
            "      --auto-delete      Remove it when its VMM lets go of it, or when this command is\n"
            "                         ended before one attached: it stays until the tap is gone\n")},
        {OPTION_CONFIG_FILE,
         N_("      --config-file=FILE Firecracker's own configuration; required\n")},
        {OPTION_DRY_RUN, N_("      --dry-run          Only show what would be removed\n")},
};

static int help(Ctl *ctl) {
        output_page(ctl);
        if (ctl->verb) {
                (void)printf("fcprocctl [OPTIONS...] %s%s%s\n\n%s.\n\n", ctl->verb->name,
                             *ctl->verb->arguments ? " " : "", ctl->verb->arguments,
                             _(ctl->verb->help));
                for (size_t i = 0; i < ELEMENTS(verb_help); i++)
                        if (ctl->verb->options & verb_help[i].option)
                                (void)fputs(_(verb_help[i].text), stdout);
                (void)printf("%s\nJSON: %s\n", _(common_help), ctl->verb->shape);
                return CODE_DONE;
        }
        (void)printf("fcprocctl [OPTIONS...] VERB [ARGUMENTS...]\n\n%s\n\n",
                     _("The host's side of Firecracker microVMs: bridge, taps, sockets, processes."));
        for (const Verb *v = verbs; v->name; v++)
                (void)printf("  %-20s %-16s %s\n", v->name, v->arguments, _(v->help));
        (void)printf("\n%s\n%s\n%s\n%s",
                     _("SOCKET is the path of a Firecracker API socket, or a VM's bare name, which\n"
                       "stands for NAME.sock in your own directory.\n"),
                     _(common_help),
                     _("Exit codes: 0 done, 1 failed, 2 usage, 4 not permitted, 7 no service, 10 no such\n"
                       "object, 12 timed out; of several objects the first failure's.\n"),
                     _("See the fcprocctl(1) man page for details.\n"));
        return CODE_DONE;
}

static int read_user(Ctl *ctl, const char *name, uint32_t *ret) {
        const struct passwd *pw;
        uint64_t n;

        if (number_parse(name, UINT32_MAX - 1, &n)) {
                *ret = (uint32_t)n;
                return -1;
        }
        if (*name && !strchr("0123456789-+", *name) && strlen(name) < 64 && !ctl_remote(ctl)) {
                pw = getpwnam(name);
                if (pw) {
                        *ret = pw->pw_uid;
                        return -1;
                }
        }
        return report_usage(ctl, _("--tun-uid=%.40s: there is no such user"), name);
}

static int read_span(Ctl *ctl, const char *option, uint64_t *ret, bool *ret_given) {
        *ret_given = true;
        if (span_parse(optarg, ret))
                return -1;
        return report_usage(ctl,
                            _("--%s=%.40s is no span of time; write it like 90, 5min, '1h 30s' or infinity"),
                            option, optarg);
}

/* What is said from here on, errors of the command line too, is for people or for a program. */
static void set_json(Ctl *ctl, JsonMode mode) {
        ctl->json = mode;
        i18n_for_people(mode == JSON_OFF);
}

static int read_one(Ctl *ctl, int c, const char *word) {
        uint8_t mac[6];
        uint64_t n;
        Failure f;

        switch (c) {
        case 'h':
                ctl->help = true;
                break;
        case 'H':
                ctl->host = optarg;
                break;
        case 'M':
                ctl->machine = optarg;
                break;
        case 'j':
                set_json(ctl, JSON_SHORT);
                break;
        case ARG_JSON:
                if (strcmp(optarg, "short") == 0)
                        set_json(ctl, JSON_SHORT);
                else if (strcmp(optarg, "pretty") == 0)
                        set_json(ctl, JSON_PRETTY);
                else if (strcmp(optarg, "off") == 0)
                        set_json(ctl, JSON_OFF);
                else
                        return report_usage(ctl, _("--json=%.40s: it is short, pretty or off"),
                                            optarg);
                break;
        case ARG_NO_LEGEND:
                ctl->no_legend = true;
                break;
        case ARG_NO_PAGER:
                ctl->no_pager = true;
                break;
        case 'q':
                ctl->quiet = true;
                break;
        case ARG_NO_ASK_PASSWORD:
                ctl->no_ask_password = true;
                break;
        case ARG_TIMEOUT:
                ctl->given |= OPTION_TIMEOUT;
                return read_span(ctl, "timeout", &ctl->timeout, &ctl->have_timeout);
        case ARG_GRACE:
                ctl->given |= OPTION_GRACE;
                return read_span(ctl, "grace", &ctl->grace, &ctl->have_grace);
        case ARG_FORCE:
                ctl->given |= OPTION_FORCE;
                ctl->force = true;
                break;
        case ARG_DRY_RUN:
                ctl->given |= OPTION_DRY_RUN;
                ctl->dry_run = true;
                break;
        case ARG_TUN_UID:
                ctl->given |= OPTION_TAP;
                ctl->have_tun_uid = true;
                return read_user(ctl, optarg, &ctl->tun_uid);
        case ARG_TUN_GID:
                ctl->given |= OPTION_TAP;
                if (!number_parse(optarg, UINT32_MAX - 1, &n))
                        return report_usage(ctl, _("--tun-gid=%.40s is no group ID"), optarg);
                ctl->have_tun_gid = true;
                ctl->tun_gid = (uint32_t)n;
                break;
        case ARG_GUEST_MAC:
                ctl->given |= OPTION_TAP;
                if (mac_check(optarg, mac, &f) < 0)
                        return report_usage(ctl, "%s", f.text);
                ctl->guest_mac = optarg;
                break;
        case ARG_NO_ISOLATION:
                ctl->given |= OPTION_TAP;
                ctl->have_isolated = true;
                ctl->isolated = false;
                break;
        case ARG_ISOLATED:
                ctl->given |= OPTION_TAP;
                if (!boolean_parse(optarg, &ctl->isolated))
                        return report_usage(ctl, _("--isolated=%.40s: it is yes or no"), optarg);
                ctl->have_isolated = true;
                break;
        case ARG_MTU:
                ctl->given |= OPTION_TAP;
                if (!number_parse(optarg, 65535, &n) || n < 1280)
                        return report_usage(ctl,
                                            _("--mtu=%.40s: it is a number from 1280 to the bridge's MTU"),
                                            optarg);
                ctl->have_mtu = true;
                ctl->mtu = (uint32_t)n;
                break;
        case ARG_AUTO_DELETE:
                ctl->given |= OPTION_TAP;
                ctl->auto_delete = true;
                break;
        case ARG_CONFIG_FILE:
                ctl->given |= OPTION_CONFIG_FILE;
                ctl->config_file = optarg;
                break;
        case ':':
                return report_usage(ctl, _("%.40s needs a value; see fcprocctl --help"), word);
        default:
                return report_usage(
                        ctl,
                        _("%.40s is no option of fcprocctl, or takes no value; see fcprocctl --help"),
                        word);
        }
        return -1;
}

/* Errors in the options before it have to know how they are to be told; and how much is behind "--"
 * cannot be seen any more when getopt has moved the arguments. */
static void look_ahead(Ctl *ctl, int argc, char *argv[]) {
        int i;

        for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
                if (strcmp(argv[i], "-j") == 0 || strcmp(argv[i], "--json=short") == 0)
                        set_json(ctl, JSON_SHORT);
                else if (strcmp(argv[i], "--json=pretty") == 0)
                        set_json(ctl, JSON_PRETTY);
                else if (strcmp(argv[i], "--json=off") == 0)
                        set_json(ctl, JSON_OFF);
        ctl->n_behind = i < argc ? argc - i - 1 : 0;
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

static const char *option_name(unsigned given) {
        return given & OPTION_TIMEOUT       ? "--timeout"
               : given & OPTION_GRACE       ? "--grace"
               : given & OPTION_FORCE       ? "--force"
               : given & OPTION_DRY_RUN     ? "--dry-run"
               : given & OPTION_CONFIG_FILE ? "--config-file"
                                            : _("the options of create-tap");
}

int arguments_read(Ctl *ctl, int argc, char *argv[], int *ret_n, char ***ret_arguments) {
        int c, r;

        look_ahead(ctl, argc, argv);
        opterr = 0;
        for (;;) {
                const char *word = argv[optind < argc ? optind : argc - 1];

                c = getopt_long(argc, argv, ":hH:M:jq", options, NULL);
                if (c < 0)
                        break;
                if (c == ARG_VERSION) {
                        (void)printf("fcprocctl %s\n", FCPROC_VERSION);
                        return CODE_DONE;
                }
                /* what getopt has just left behind, it having moved names out of the way */
                if (c == ':' || c == '?')
                        word = argv[optind - 1];
                r = read_one(ctl, c, word);
                if (r >= 0)
                        return r;
        }
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
        if (ctl->given & ~ctl->verb->options)
                return report_usage(ctl, _("%s does not take %s; see fcprocctl %s --help"),
                                    ctl->verb->name, option_name(ctl->given & ~ctl->verb->options),
                                    ctl->verb->name);
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
