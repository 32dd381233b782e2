/* SPDX-License-Identifier: MIT */
/* One row an option; nothing else in the client knows their names. Which verb takes which group is
 * in the table of verbs. All values are checked here, before there is a bus: a number that makes no
 * sense is a usage error on a host without the service as well. Arguments can be of any length, so
 * messages quote no more than their beginnings. */

#include <getopt.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/validate.h"
#include "i18n.h"
#include "option.h"
#include "report.h"
#include "text.h"

#define HELP_COLUMN 25 /* where the texts begin: completions and tests read the lines */

/* --- readers --- */

static int read_flag(Ctl *ctl, const Option *o, void *field, const char *value) {
        *(bool *)field = true;
        return -1;
}

static int read_no(Ctl *ctl, const Option *o, void *field, const char *value) {
        *(bool *)field = false;
        return -1;
}

static int read_text(Ctl *ctl, const Option *o, void *field, const char *value) {
        *(const char **)field = value;
        return -1;
}

static int read_boolean(Ctl *ctl, const Option *o, void *field, const char *value) {
        if (boolean_parse(value, field))
                return -1;
        return report_usage(ctl, _("--%s=%.40s: it is yes or no"), o->name, value);
}

static int read_span(Ctl *ctl, const Option *o, void *field, const char *value) {
        if (span_parse(value, field))
                return -1;
        return report_usage(ctl,
                            _("--%s=%.40s is no span of time; write it like 90, 5min, '1h 30s' or infinity"),
                            o->name, value);
}

static int read_user(Ctl *ctl, const Option *o, void *field, const char *value) {
        const struct passwd *pw = NULL;
        uint64_t n;

        if (number_parse(value, UINT32_MAX - 1, &n)) {
                *(uint32_t *)field = (uint32_t)n;
                return -1;
        }
        /* on another host a name would be another user's */
        if (*value && !strchr("0123456789-+", *value) && strlen(value) < 64 && !ctl_remote(ctl))
                pw = getpwnam(value);
        if (!pw)
                return report_usage(ctl, _("--%s=%.40s: there is no such user"), o->name, value);
        *(uint32_t *)field = pw->pw_uid;
        return -1;
}

static int read_group(Ctl *ctl, const Option *o, void *field, const char *value) {
        uint64_t n;

        if (!number_parse(value, UINT32_MAX - 1, &n))
                return report_usage(ctl, _("--%s=%.40s is no group ID"), o->name, value);
        *(uint32_t *)field = (uint32_t)n;
        return -1;
}

static int read_mac(Ctl *ctl, const Option *o, void *field, const char *value) {
        uint8_t mac[6];
        Failure f;

        if (mac_check(value, mac, &f) < 0)
                return report_usage(ctl, "%s", f.text);
        return read_text(ctl, o, field, value);
}

static int read_mtu(Ctl *ctl, const Option *o, void *field, const char *value) {
        uint64_t n;

        if (!number_parse(value, 65535, &n) || n < 1280)
                return report_usage(ctl,
                                    _("--%s=%.40s: it is a number from 1280 to the bridge's MTU"),
                                    o->name, value);
        *(uint32_t *)field = (uint32_t)n;
        return -1;
}

/* What is said from here on, errors of the command line too, is for people or for a program. */
static void set_json(Ctl *ctl, JsonMode mode) {
        ctl->json = mode;
        i18n_for_people(mode == JSON_OFF);
}

static bool set_json_named(Ctl *ctl, const char *name) {
        static const char *const modes[] =
                {[JSON_OFF] = "off", [JSON_SHORT] = "short", [JSON_PRETTY] = "pretty"};

        for (size_t i = 0; i < ELEMENTS(modes); i++)
                if (strcmp(name, modes[i]) == 0) {
                        set_json(ctl, (JsonMode)i);
                        return true;
                }
        return false;
}

static int read_json(Ctl *ctl, const Option *o, void *field, const char *value) {
        if (set_json_named(ctl, value ?: "short"))
                return -1;
        return report_usage(ctl, _("--%s=%.40s: it is short, pretty or off"), o->name, value);
}

static int show_version(Ctl *ctl, const Option *o, void *field, const char *value) {
        (void)printf("fcprocctl %s\n", FCPROC_VERSION);
        return CODE_DONE;
}

/* --- the rows --- */

#define TO(field) offsetof(Ctl, field)

const Option options[] = {
        {"timeout", 0, "SPAN", OPTION_TIMEOUT, read_span, TO(timeout), TO(have_timeout),
         N_("How long to wait: 90 (seconds), 5min, 1h 30s, infinity; 0 only looks")},
        {"grace", 0, "SPAN", OPTION_GRACE, read_span, TO(grace), TO(have_grace),
         N_("How long a guest may take (30s); 0 kills at once, infinity never")},
        {"force", 0, NULL, OPTION_FORCE, read_flag, TO(force), 0, N_("Kill a paused VM too")},
        {"tun-uid", 0, "USER", OPTION_TAP, read_user, TO(tun_uid), 0,
         N_("Who may attach to the tap (you)"), 'u'},
        {"tun-gid", 0, "GID", OPTION_TAP, read_group, TO(tun_gid), 0,
         N_("The group that may (none)"), 'u'},
        {"guest-mac", 0, "MAC", OPTION_TAP, read_mac, TO(guest_mac), 0,
         N_("Nothing else may be sent from it"), 's'},
        {"isolated", 0, "BOOL", OPTION_TAP, read_boolean, TO(isolated), TO(have_isolated),
         N_("Keep it from other isolated taps (as configured)"), 'b'},
        {"no-isolation", 0, NULL, OPTION_TAP, read_no, TO(isolated), TO(have_isolated),
         N_("The same as --isolated=no")},
        {"mtu", 0, "BYTES", OPTION_TAP, read_mtu, TO(mtu), 0, N_("Its MTU (the bridge's)"), 'u'},
        {"auto-delete", 0, NULL, OPTION_TAP, read_flag, TO(auto_delete), 0,
         N_("Remove it when its VMM lets go of it, or when this command is\n"
            "ended before one attached: it stays until the tap is gone"),
         'b'},
        {"config-file", 0, "FILE", OPTION_CONFIG_FILE, read_text, TO(config_file), 0,
         N_("Firecracker's own configuration; required")},
        {"dry-run", 0, NULL, OPTION_DRY_RUN, read_flag, TO(dry_run), 0,
         N_("Only show what would be removed")},

        {"help", 'h', NULL, 0, read_flag, TO(help), 0,
         N_("Show this, or with a verb what it takes and prints")},
        {"version", 0, NULL, 0, show_version, 0, 0, N_("Show the version")},
        {"host", 'H', "[USER@]HOST", 0, read_text, TO(host), 0,
         N_("Ask the service of another host, through ssh")},
        {"machine", 'M', "NAME", 0, read_text, TO(machine), 0,
         N_("Ask the service in a local container")},
        {"json", 0, "MODE", 0, read_json, 0, 0, N_("JSON: short (one line), pretty, off")},
        {NULL, 'j', NULL, 0, read_json, 0, 0, N_("The same as --json=short")},
        {"no-legend", 0, NULL, 0, read_flag, TO(no_legend), 0,
         N_("Tables without headings and counts")},
        {"no-pager", 0, NULL, 0, read_flag, TO(no_pager), 0, N_("No pager for long lists")},
        {"quiet", 'q', NULL, 0, read_flag, TO(quiet), 0,
         N_("Print only what was asked for, and errors")},
        {"no-ask-password", 0, NULL, 0, read_flag, TO(no_ask_password), 0,
         N_("Never ask for a password")},
        {},
};

#define N_OPTIONS (ELEMENTS(options) - 1)
_Static_assert(N_OPTIONS <= OPTIONS_MAX, "OPTIONS_MAX"); /* Ctl.given has a bit for each */

/* --- the command line --- */

/* Errors in the options before it have to know how they are to be told; and how much is behind "--"
 * cannot be seen any more when getopt has moved the arguments. */
static void look_ahead(Ctl *ctl, int argc, char *argv[]) {
        int i;

        for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
                if (strcmp(argv[i], "-j") == 0)
                        set_json(ctl, JSON_SHORT);
                else if (strncmp(argv[i], "--json=", 7) == 0)
                        (void)set_json_named(ctl, argv[i] + 7);
        ctl->n_behind = i < argc ? argc - i - 1 : 0;
}

static int take(Ctl *ctl, size_t i, const char *value) {
        const Option *o = &options[i];
        int r = o->read(ctl, o, (char *)ctl + o->field, value);

        ctl->given |= UINT64_C(1) << i;
        if (r < 0 && o->have)
                *(bool *)((char *)ctl + o->have) = true;
        return r;
}

/* What getopt_long() wants: the rows' numbers stand for them, behind all that is a letter. */
#define NUMBERED 256

static void for_getopt(struct option ret_long[static N_OPTIONS + 1],
                       char ret_letters[static 2 * N_OPTIONS + 2]) {
        size_t n = 0;

        *ret_letters++ = ':';
        for (size_t i = 0; i < N_OPTIONS; i++) {
                if (options[i].name)
                        ret_long[n++] = (struct option){options[i].name, options[i].value != NULL,
                                                        NULL, NUMBERED + (int)i};
                if (options[i].letter)
                        *ret_letters++ = options[i].letter;
                if (options[i].letter && options[i].value)
                        *ret_letters++ = ':';
        }
        ret_long[n] = (struct option){};
        *ret_letters = '\0';
}

int option_read_all(Ctl *ctl, int argc, char *argv[]) {
        struct option known[N_OPTIONS + 1];
        char letters[2 * N_OPTIONS + 2];
        int c, r = -1;

        look_ahead(ctl, argc, argv);
        for_getopt(known, letters);
        opterr = 0;
        while (r < 0 && (c = getopt_long(argc, argv, letters, known, NULL)) >= 0) {
                /* what getopt has just left behind, it having moved names out of the way */
                const char *word = argv[optind - 1];

                if (c == ':')
                        return report_usage(ctl, _("%.40s needs a value; see fcprocctl --help"),
                                            word);
                if (c == '?')
                        return report_usage(
                                ctl,
                                _("%.40s is no option of fcprocctl, or takes no value; see fcprocctl --help"),
                                word);
                for (size_t i = 0; i < N_OPTIONS; i++)
                        if (c == NUMBERED + (int)i || c == options[i].letter)
                                r = take(ctl, i, optarg);
        }
        return r;
}

const Option *option_stray(const Ctl *ctl, unsigned groups) {
        for (size_t i = 0; i < N_OPTIONS; i++)
                if ((ctl->given & UINT64_C(1) << i) && options[i].group & ~groups)
                        return &options[i];
        return NULL;
}

int option_append(const Ctl *ctl, unsigned groups, sd_bus_message *m) {
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        for (size_t i = 0; i < N_OPTIONS && r >= 0; i++) {
                const Option *o = &options[i];
                const void *field = (const char *)ctl + o->field;

                /* another option may have set the same field */
                if (!(o->group & groups) || !o->type ||
                    !(o->have ? *(const bool *)((const char *)ctl + o->have)
                              : (ctl->given & UINT64_C(1) << i) != 0))
                        continue;
                switch (o->type) {
                case 'b':
                        r = sd_bus_message_append(m, "{sv}", o->name, "b", *(const bool *)field);
                        break;
                case 's':
                        r = sd_bus_message_append(m, "{sv}", o->name, "s",
                                                  *(const char *const *)field);
                        break;
                default:
                        r = sd_bus_message_append(m, "{sv}", o->name, "u", *(const uint32_t *)field);
                }
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* --- the help --- */

static void help_print(const Option *o) {
        const char *text = _(o->help), *end = strchrnul(text, '\n');
        char left[64];
        int n = 0;

        n += o->letter ? snprintf(left, sizeof(left), "  -%c%s", o->letter, o->name ? ", " : "")
                       : snprintf(left, sizeof(left), "      ");
        if (o->name)
                (void)snprintf(left + n, sizeof(left) - (size_t)n, "--%s%s%s", o->name,
                               o->value ? "=" : "", o->value ?: "");
        (void)printf("%-*s%.*s\n", HELP_COLUMN, left, (int)(end - text), text);
        while (*end) {
                text = end + 1;
                end = strchrnul(text, '\n');
                (void)printf("%*s%.*s\n", HELP_COLUMN, "", (int)(end - text), text);
        }
}

void option_help(unsigned groups) {
        for (size_t i = 0; i < N_OPTIONS; i++)
                if (groups ? options[i].group & groups : !options[i].group)
                        help_print(&options[i]);
}
