/* SPDX-License-Identifier: MIT */
/* fcprocd(8): arguments, signals, the loop. */

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "base/loop.h"
#include "service.h"

#define EXIT_USAGE 2
#define EXIT_CONFIG 78 /* sysexits.h EX_CONFIG: starting again would not help */

static int help(void) {
        (void)printf(
                "fcprocd [OPTIONS...]\n\n"
                "Owns the host side of Firecracker microVMs: bridge, taps, sockets, processes.\n"
                "Serves " FCPROC_NAME " on the system bus; polkit decides who may do what.\n\n"
                "  --config=FILE  Read FILE and FILE.d/*.conf instead of /etc/banger/fcproc.conf\n"
                "                 and the fcproc.conf.d of /usr/lib/banger and /etc/banger\n"
                "  --version      Print the version and end\n"
                "  --help         Print this and end\n\n"
                "SIGHUP reloads the configuration; SIGTERM and SIGINT end the service.\n"
                "DBUS_SYSTEM_BUS_ADDRESS names another bus. Usually the bus or systemd starts it\n"
                "(fcproc.service); every key of the configuration is in the example fcproc.conf.\n");
        return 0;
}

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        service_reload(userdata);
        return 0;
}

static int add_signal(sd_event *event, int number, sd_event_signal_handler_t function,
                      void *userdata) {
        sd_event_source *source = NULL;
        int r = sd_event_add_signal(event, &source, number, function, userdata);

        if (r >= 0)
                r = sd_event_source_set_priority(source, PRIORITY_CONTROL);
        if (r >= 0)
                r = sd_event_source_set_floating(source, true);
        sd_event_source_unref(source);
        return r;
}

static int run(const char *config_file) {
        Service *service = NULL;
        sd_event *event = NULL;
        char *reason = NULL;
        sigset_t signals;
        int r, code = 1;

        (void)sigemptyset(&signals);
        (void)sigaddset(&signals, SIGTERM);
        (void)sigaddset(&signals, SIGINT);
        (void)sigaddset(&signals, SIGHUP);
        (void)sigprocmask(SIG_BLOCK, &signals, NULL);
        (void)signal(SIGPIPE, SIG_IGN);

        r = sd_event_default(&event);
        if (r >= 0)
                r = service_new(event, config_file, &service, &reason);
        if (r < 0 && !service) {
                log_message(LOG_ERR, "fcprocd cannot start: %s", reason ?: strerrordesc_np(-r));
                code = reason && strstr(reason, ".conf") ? EXIT_CONFIG : 1;
                goto end;
        }
        r = add_signal(event, SIGTERM, NULL, NULL);
        if (r >= 0)
                r = add_signal(event, SIGINT, NULL, NULL);
        if (r >= 0)
                r = add_signal(event, SIGHUP, on_reload, service);
        if (r >= 0)
                r = service_connect(service, &reason);
        if (r < 0) {
                log_message(LOG_ERR, "fcprocd cannot start: %s", reason ?: strerrordesc_np(-r));
                goto end;
        }
        code = sd_event_loop(event);
        if (code < 0) {
                log_message(LOG_ERR, "The event loop failed: %s", strerrordesc_np(-code));
                code = 1;
        }
        (void)sd_notify(false, "STOPPING=1");
end:
        service_free(service);
        sd_event_unref(event);
        free(reason);
        return code;
}

int main(int argc, char *argv[]) {
        static const struct option options[] = {
                {"config", required_argument, NULL, 'c'},
                {"version", no_argument, NULL, 'v'},
                {"help", no_argument, NULL, 'h'},
                {},
        };
        const char *config_file = NULL;
        int c;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {
                case 'c':
                        config_file = optarg;
                        break;
                case 'v':
                        (void)printf("fcprocd %s\n", FCPROC_VERSION);
                        return 0;
                case 'h':
                        return help();
                default:
                        (void)fprintf(stderr, "See fcprocd --help\n");
                        return EXIT_USAGE;
                }
        if (optind < argc) {
                (void)fprintf(stderr, "fcprocd takes no arguments; see --help\n");
                return EXIT_USAGE;
        }
        log_open();
        return run(config_file);
}
