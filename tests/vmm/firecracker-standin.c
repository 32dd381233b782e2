/* SPDX-License-Identifier: MIT */
/* A STAND-IN for Firecracker, for tests; it runs no virtual machine. It has Firecracker's command line, socket, answers, signals
 * and exit codes, as a real 1.16.1 showed them (answers-1.16.1.json; test_standin.py holds it to them), so that tests need no
 * /dev/kvm; and switches for the ways in which a VMM, or a process that pretends to be one, can misbehave, which no real one has.
 * It is built under the name "firecracker" because FcProc looks at comm.
 *
 * This file owns the process: options, signals, the listening sockets, the loop, and the misbehaviour. One thread, one poll(). */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "standin.h"

#define API_CONNECTIONS_MAX 10u
#define CONNECTIONS_MAX 64u

/* Firecracker's own numbers, src/vmm/src/lib.rs. */
enum {
        EXIT_GENERIC = 1,
        EXIT_UNEXPECTED = 2,
        EXIT_ARGUMENTS = 153
};

typedef enum Manners {
        WELL_BEHAVED,
        NO_ANSWER,
        ENDLESS_CONTINUE,
        ENDLESS_HEADERS,
        REDIRECT,
        HTTP_0_9,
        CLOSE_MID_BODY,
        HUGE_BODY,
} Manners;

typedef struct Connection {
        int fd;
        bool is_vsock; /* takes everything, answers nothing, and does not count */
        unsigned uid;
        unsigned long long n_received;
        Http http;
        Buffer out;
        size_t n_sent;
        const char *endless; /* what follows for ever once "out" is sent */
        bool close_when_sent;
        uint64_t next_byte_usec;
} Connection;

static Vm vm;

static struct {
        const char *api_sock, *config_file;
        bool no_api;
        char **extra_args; /* what follows "--", NULL at the end */

        Manners manners;
        const char *redirect, *vsock, *exec, *log;
        uint64_t listen_after_usec, exit_after_usec;
        int exit_code, backlog;
        bool paused, drip, unlink, stop_listening, fork, no_accept;
} arg = {
        .api_sock = "/run/firecracker.socket",
        .exit_after_usec = USEC_INFINITY,
        .backlog = -1, /* what Rust's standard library asks for on Linux: as many as net.core.somaxconn allows */
};

static struct {
        int listener, vsock, log;
        uint64_t exit_usec;
        bool is_up, has_console;
        Connection connections[CONNECTIONS_MAX];
        size_t n_connections, n_api;
} standin = {.listener = -1, .vsock = -1, .log = -1};

static void help(void) {
        fputs("STAND-IN for Firecracker v" FIRECRACKER_VERSION
              ", for FcProc's tests. It runs no virtual machine.\n\n"
              "As Firecracker has them:\n"
              "  --api-sock PATH      --id ID      --config-file FILE      --no-api      --version      --help\n"
              "Its other options are taken and have no effect. \"listening\" on stdout says when there is a listener (without an\n"
              "API: \"running\"); a configuration file has been acted on by then.\n\n"
              "Its own, where each but the first may be thought of as a VMM gone bad:\n"
              "  --standin-log=FILE              a line \"N bytes from uid U\" for each connection that closes (\"… on vsock\")\n"
              "  --standin-guest-delay=MS        from Ctrl-Alt-Del to the exit (20)\n"
              "  --standin-paused                starts paused\n"
              "  --standin-ignore-ctrl-alt-del   204, and the guest does nothing (the queue of keys is full after the fourth)\n"
              "  --standin-exit-after=MS[:CODE]  exits by itself\n"
              "  --standin-refuse=TEXT           every action: 400 with TEXT as its fault_message\n"
              "  --standin-listen-after=MS       gap between bind and listen\n"
              "  --standin-no-accept[=BACKLOG]   listens (backlog 0: room for one) and never accepts\n"
              "  --standin-unlink                unlinks its socket once it listens\n"
              "  --standin-stop-listening        closes the listener before it says \"listening\", and lives\n"
              "  --standin-fork                  listens; the parent says \"child PID\" and exits, the child serves\n"
              "  --standin-vsock=PATH            a second listener, which never answers\n"
              "  --standin-exec=PROG             once started and its answers sent: executes PROG with what follows \"--\"\n"
              "And, instead of any answer:\n"
              "  --standin-no-answer             nothing\n"
              "  --standin-drip                  the right one, a byte each 100 ms\n"
              "  --standin-endless-continue      100 Continue without end\n"
              "  --standin-endless-headers       headers without end\n"
              "  --standin-redirect=URL          302 to URL\n"
              "  --standin-http09                a body without a status line, and the connection is closed\n"
              "  --standin-close-mid-body        half the body announced, and the connection is closed\n"
              "  --standin-huge-body             400 with a fault_message of 10 MB\n",
              stdout);
}

/* Nothing is left for later: no buffers, no exit handlers, as the real one's signal handlers leave it. */
_Noreturn static void finish(int code) {
        _exit(code);
}

static uint64_t parse_msec(const char *s, char **end) {
        unsigned long ms;

        ms = strtoul(s, end, 10);
        if (*end == s) {
                fprintf(stderr, "Error: \"%s\" is no number of milliseconds\n", s);
                finish(EXIT_ARGUMENTS);
        }
        return ms * 1000u;
}

static bool parse_own_option(const char *option) {
        static const struct {
                const char *name;
                bool takes_value;
                Manners manners;
                bool *flag;
                const char **text;
                uint64_t *usec;
        } options[] = {
                {"listen-after", true, .usec = &arg.listen_after_usec},
                {"exit-after", true, .usec = &arg.exit_after_usec},
                {"guest-delay", true, .usec = &vm.guest_delay_usec},
                {"refuse", true, .text = &vm.refuse},
                {"vsock", true, .text = &arg.vsock},
                {"exec", true, .text = &arg.exec},
                {"log", true, .text = &arg.log},
                {"redirect", true, .text = &arg.redirect, .manners = REDIRECT},
                {"paused", .flag = &arg.paused},
                {"ignore-ctrl-alt-del", .flag = &vm.ignores_ctrl_alt_del},
                {"drip", .flag = &arg.drip},
                {"unlink", .flag = &arg.unlink},
                {"stop-listening", .flag = &arg.stop_listening},
                {"fork", .flag = &arg.fork},
                {"no-answer", .manners = NO_ANSWER},
                {"endless-continue", .manners = ENDLESS_CONTINUE},
                {"endless-headers", .manners = ENDLESS_HEADERS},
                {"http09", .manners = HTTP_0_9},
                {"close-mid-body", .manners = CLOSE_MID_BODY},
                {"huge-body", .manners = HUGE_BODY},
        };
        size_t n = strcspn(option, "=");
        const char *value = option[n] ? option + n + 1 : NULL;
        char *end;

        if (n == strlen("no-accept") && strncmp(option, "no-accept", n) == 0) {
                arg.no_accept = true;
                arg.backlog = value ? atoi(value) : 0;
                return true;
        }
        for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
                if (strlen(options[i].name) != n || strncmp(options[i].name, option, n) != 0 ||
                    options[i].takes_value != !!value)
                        continue;
                if (options[i].flag)
                        *options[i].flag = true;
                if (options[i].text)
                        *options[i].text = value;
                if (options[i].manners != WELL_BEHAVED)
                        arg.manners = options[i].manners;
                if (options[i].usec) {
                        *options[i].usec = parse_msec(value, &end);
                        if (options[i].usec == &arg.exit_after_usec && *end == ':')
                                arg.exit_code = (int)strtol(end + 1, &end, 10);
                        if (*end)
                                return false;
                }
                return true;
        }
        return false;
}

/* Firecracker knows no "--option=value": a value is the next argument, whatever it looks like. */
static void parse_arguments(int argc, char **argv) {
        static const char *const flags[] = {"no-api",     "no-seccomp",      "boot-timer",
                                            "show-level", "show-log-origin", "enable-pci"};
        static const char *const valued[] = {
                "api-sock",
                "id",
                "config-file",
                "seccomp-filter",
                "start-time-us",
                "start-time-cpu-us",
                "parent-cpu-time-us",
                "metadata",
                "log-path",
                "level",
                "module",
                "metrics-path",
                "http-api-max-payload-size",
                "mmds-size-limit",
        };
        bool seen[sizeof valued / sizeof valued[0]] = {}, version = false;
        int n = 1;

        for (; n < argc && strcmp(argv[n], "--") != 0; n++) {
                if (strcmp(argv[n], "--help") == 0 || strcmp(argv[n], "-h") == 0) {
                        help();
                        exit(0);
                }
                version = version || strcmp(argv[n], "--version") == 0;
        }
        if (version) {
                puts("Firecracker v" FIRECRACKER_VERSION "\n");
                exit(0);
        }
        arg.extra_args = argv + n + (n < argc);

        for (int i = 1; i < n; i++) {
                const char *name = strncmp(argv[i], "--", 2) == 0 ? argv[i] + 2 : "";
                bool known = strncmp(name, "standin-", 8) == 0 && parse_own_option(name + 8);

                for (size_t k = 0; k < sizeof flags / sizeof flags[0]; k++)
                        if (strcmp(name, flags[k]) == 0)
                                known = true;
                if (strcmp(name, "no-api") == 0)
                        arg.no_api = true;

                for (size_t k = 0; k < sizeof valued / sizeof valued[0]; k++) {
                        if (strcmp(name, valued[k]) != 0)
                                continue;
                        if (seen[k]) {
                                fprintf(stderr,
                                        "Error: The argument '%s' was provided more than once.\n",
                                        name);
                                finish(EXIT_ARGUMENTS);
                        }
                        if (++i >= n || strncmp(argv[i], "--", 2) == 0) {
                                fprintf(stderr,
                                        "Error: The argument '%s' requires a value, but none was supplied.\n",
                                        name);
                                finish(EXIT_ARGUMENTS);
                        }
                        known = seen[k] = true;
                        if (k == 0)
                                arg.api_sock = argv[i];
                        else if (k == 1)
                                vm.id = argv[i];
                        else if (k == 2)
                                arg.config_file = argv[i];
                        break;
                }
                if (!known) {
                        fprintf(stderr,
                                "Error: Found argument '%s' which wasn't expected, or isn't valid in this context.\n",
                                argv[i]);
                        finish(EXIT_ARGUMENTS);
                }
        }
        if (arg.no_api && !arg.config_file) {
                fputs("Error: Argument 'config-file' required, but not found.\n", stderr);
                finish(EXIT_ARGUMENTS);
        }
        if (!vm.id[0] || strlen(vm.id) > 64 ||
            vm.id[strspn(vm.id, "-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")]) {
                fprintf(stderr, "Error: Invalid instance ID: %s\n", vm.id);
                abort();
        }
}

static void on_signal(int signo) {
        static const struct {
                int signo, code;
        } codes[] = {
                {SIGSYS, EXIT_UNEXPECTED}, /* 148 only if a seccomp filter sent it */
                {SIGBUS, 149},
                {SIGSEGV, 150},
                {SIGXFSZ, 151},
                {SIGXCPU, 154},
                {SIGHUP, 156},
                {SIGILL, 157},
        };

        for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
                if (codes[i].signo == signo)
                        finish(codes[i].code);
}

static void take_signals(void) {
        static const int signals[] = {SIGSYS,  SIGBUS, SIGSEGV, SIGXFSZ,
                                      SIGXCPU, SIGHUP, SIGILL,  SIGPIPE};
        struct sigaction sa = {.sa_handler = on_signal};

        for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
                sigaction(signals[i], &sa, NULL);
}

static Buffer read_config_file(void) {
        Buffer b = {};
        char block[4096];
        ssize_t n;
        int fd = open(arg.config_file, O_RDONLY | O_CLOEXEC);

        while (fd >= 0 && (n = read(fd, block, sizeof block)) > 0)
                buffer_append(&b, block, (size_t)n);
        if (fd < 0 || n < 0) {
                fprintf(stderr,
                        "Error: Unable to open or read from the configuration file: %m (os error %d)\n",
                        errno);
                abort();
        }
        close(fd);
        return b;
}

static int bind_socket(const char *path) {
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (strlen(path) >= sizeof sa.sun_path) {
                fputs("Error: Failed to bind and run the HTTP server: IO error: path must be shorter than SUN_LEN\n",
                      stderr);
                finish(EXIT_GENERIC);
        }
        strcpy(sa.sun_path, path);
        if (fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof sa) >= 0)
                return fd;
        if (errno == EADDRINUSE)
                fprintf(stderr,
                        "Error: Failed to open the API socket at: %s. Check that it is not already used.\n",
                        path);
        else
                fprintf(stderr,
                        "Error: Failed to bind and run the HTTP server: IO error: %m (os error %d)\n",
                        errno);
        finish(EXIT_GENERIC);
}

static void start_listening(int fd, int backlog) {
        if (listen(fd, backlog) >= 0)
                return;
        fprintf(stderr, "Error: IO error: %m (os error %d)\n", errno);
        finish(EXIT_GENERIC);
}

static void close_connection(Connection *c) {
        int unread = 0;

        /* What lies unread in the socket was sent, too; it is left there, so that the other side sees what a real one shows it. */
        if (ioctl(c->fd, SIOCINQ, &unread) >= 0 && unread > 0)
                c->n_received += (unsigned)unread;
        if (standin.log >= 0)
                dprintf(standin.log, "%llu bytes from uid %u%s\n", c->n_received, c->uid,
                        c->is_vsock ? " on vsock" : "");
        close(c->fd);
        http_free(&c->http);
        buffer_free(&c->out);
        if (!c->is_vsock)
                standin.n_api--;
        *c = standin.connections[--standin.n_connections];
}

static void take_connection(int listener) {
        static const char busy[] = "HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\nContent-Length: 40\r\n\r\n"
                                   "{ \"error\": \"Too many open connections\" }";
        struct ucred cred = {};
        socklen_t size = sizeof cred;
        Connection *c;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0)
                return;
        if (standin.n_connections == CONNECTIONS_MAX) {
                close(fd);
                return;
        }
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size);
        c = &standin.connections[standin.n_connections++];
        *c = (Connection){.fd = fd, .uid = cred.uid, .is_vsock = listener == standin.vsock};
        if (c->is_vsock)
                return;
        if (++standin.n_api > API_CONNECTIONS_MAX) {
                (void)send(fd, busy, sizeof busy - 1, MSG_NOSIGNAL);
                close_connection(c);
        }
}

static void answer(Connection *c, const Request *r) {
        static char *huge;
        static const size_t huge_size = 10u * 1000 * 1000;

        switch (arg.manners) {
        case WELL_BEHAVED:
                vm_request(&vm, r, &c->out);
                return;
        case NO_ANSWER:
                return;
        case ENDLESS_CONTINUE:
                c->endless = "HTTP/1.1 100 Continue\r\n\r\n";
                return;
        case ENDLESS_HEADERS:
                buffer_printf(&c->out, "HTTP/1.1 200 \r\n");
                c->endless = "X-And-Another: of as many bytes as it takes to fill somebody's memory in the end\r\n";
                return;
        case REDIRECT:
                buffer_printf(&c->out,
                              "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n",
                              arg.redirect);
                return;
        case HTTP_0_9:
                buffer_printf(&c->out, "{\"fault_message\":\"no status line\"}");
                c->close_when_sent = true;
                return;
        case CLOSE_MID_BODY:
                buffer_printf(&c->out,
                              "HTTP/1.1 400 \r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n{\"fault_message\":\"half of");
                c->close_when_sent = true;
                return;
        case HUGE_BODY:
                if (!huge) {
                        huge = malloc(huge_size + 1);
                        if (!huge)
                                abort();
                        memset(huge, 'A', huge_size);
                        huge[huge_size] = 0;
                }
                http_fault(&c->out, "%s", huge);
                return;
        }
}

/* False: the connection is to be closed. */
static bool receive(Connection *c) {
        Http *h = &c->http;
        char block[4096];
        ssize_t n;

        if (c->is_vsock) {
                n = recv(c->fd, block, sizeof block, 0);
                if (n > 0)
                        c->n_received += (size_t)n;
                return n > 0 || (n < 0 && errno == EAGAIN);
        }
        n = recv(c->fd, h->in + h->used, sizeof h->in - h->used, 0);
        if (n <= 0)
                return n < 0 && errno == EAGAIN;
        c->n_received += (size_t)n;
        http_received(h, (size_t)n, &c->out);
        for (size_t i = 0; i < h->n_ready; i++)
                answer(c, h->ready + i);
        http_drop_ready(h);
        return true;
}

static bool has_more(const Connection *c) {
        return c->n_sent < c->out.size || c->endless;
}

static bool send_more(Connection *c) {
        size_t left = c->out.size - c->n_sent;
        ssize_t n;

        if (left == 0) {
                buffer_free(&c->out);
                c->n_sent = 0;
                while (c->endless && c->out.size < 4096)
                        buffer_append(&c->out, c->endless, strlen(c->endless));
                left = c->out.size;
        }
        if (left > 0) {
                n = send(c->fd, c->out.data + c->n_sent, arg.drip ? 1 : left, MSG_NOSIGNAL);
                if (n < 0)
                        return errno == EAGAIN;
                c->n_sent += (size_t)n;
                if (arg.drip)
                        c->next_byte_usec = now_usec() + 100000u;
        }
        return has_more(c) || !c->close_when_sent;
}

/* Its serial port and the guest there, as guest.S: "u" when it is up, then it sends back what it gets. The real one reads a
 * terminal, which it makes raw, or a pipe, and nothing else; a stdin that ends does not end it. */
static void greet(void) {
        struct termios raw;
        struct stat st;

        standin.is_up = true;
        if (tcgetattr(STDIN_FILENO, &raw) >= 0) {
                raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO | ISIG);
                tcsetattr(STDIN_FILENO, TCSANOW, &raw);
        }
        fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
        fcntl(STDOUT_FILENO, F_SETFL, fcntl(STDOUT_FILENO, F_GETFL) | O_NONBLOCK);
        standin.has_console = isatty(STDIN_FILENO) ||
                              (fstat(STDIN_FILENO, &st) >= 0 && S_ISFIFO(st.st_mode));
        dprintf(STDOUT_FILENO, "u\n");
}

static void serve_console(void) {
        char typed[64];
        ssize_t n = read(STDIN_FILENO, typed, sizeof typed);

        if (n > 0)
                (void)write(STDOUT_FILENO, typed, (size_t)n);
        else if (n == 0 || errno != EAGAIN)
                standin.has_console = false;
}

/* One round: waits for the first thing to happen, or a time that was set. */
static void serve(void) {
        struct pollfd fds[CONNECTIONS_MAX + 3];
        size_t n = standin.n_connections, n_fds = n, console = 0;
        uint64_t now = now_usec(),
                 until = standin.exit_usec < vm.reset_usec ? standin.exit_usec : vm.reset_usec, left;
        struct timespec ts;

        for (size_t i = 0; i < n; i++) {
                const Connection *c = standin.connections + i;
                bool later = has_more(c) && c->next_byte_usec > now;

                /* As the real one: nothing is read as long as something is to be sent. */
                fds[i] = (struct pollfd){.fd = c->fd,
                                         .events = (short)(POLLRDHUP | (later         ? 0
                                                                        : has_more(c) ? POLLOUT
                                                                                      : POLLIN))};
                if (later && c->next_byte_usec < until)
                        until = c->next_byte_usec;
        }
        if (standin.listener >= 0 && !arg.no_accept)
                fds[n_fds++] = (struct pollfd){.fd = standin.listener, .events = POLLIN};
        if (standin.vsock >= 0)
                fds[n_fds++] = (struct pollfd){.fd = standin.vsock, .events = POLLIN};
        if (standin.has_console) {
                console = n_fds;
                fds[n_fds++] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
        }

        left = until > now ? until - now : 0;
        ts = (struct timespec){.tv_sec = (time_t)(left / 1000000u),
                               .tv_nsec = (long)(left % 1000000u * 1000u)};
        if (ppoll(fds, n_fds, until == USEC_INFINITY ? NULL : &ts, NULL) < 0)
                return;

        for (size_t i = n; i-- > 0;) {
                Connection *c = standin.connections + i;
                bool keep = true;

                if (fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR))
                        keep = c->is_vsock && (fds[i].revents & POLLIN) && receive(c);
                else if (fds[i].revents & POLLIN)
                        keep = receive(c) && (!has_more(c) || arg.drip || send_more(c));
                else if (fds[i].revents & POLLOUT)
                        keep = send_more(c);
                if (!keep)
                        close_connection(c);
        }
        for (size_t i = n; i < n_fds; i++)
                if (console > 0 && i == console && fds[i].revents)
                        serve_console();
                else if (fds[i].revents & POLLIN)
                        take_connection(fds[i].fd);
}

static void listen_on_socket(void) {
        struct timespec gap = {.tv_sec = (time_t)(arg.listen_after_usec / 1000000u),
                               .tv_nsec = (long)(arg.listen_after_usec % 1000000u * 1000u)};

        standin.listener = bind_socket(arg.api_sock);
        if (arg.vsock)
                standin.vsock = bind_socket(arg.vsock);
        nanosleep(&gap, NULL);
        start_listening(standin.listener, arg.backlog);
        if (arg.vsock)
                start_listening(standin.vsock, -1);
}

static void misbehave_at_start(void) {
        pid_t pid;

        /* What takes away the socket is done by the time it is said to listen: there is no later event to wait for. */
        if (arg.unlink)
                unlink(arg.api_sock);
        if (arg.stop_listening) {
                close(standin.listener);
                standin.listener = -1;
        }
        dprintf(STDOUT_FILENO, arg.no_api ? "running\n" : "listening\n");
        if (arg.fork) {
                pid = fork();
                if (pid != 0) {
                        dprintf(STDOUT_FILENO, "child %d\n", (int)pid);
                        finish(pid < 0);
                }
        }
}

static void execute(void) {
        size_t n = 0;
        char **argv;

        while (arg.extra_args[n])
                n++;
        argv = calloc(n + 2, sizeof *argv);
        if (!argv)
                abort();
        argv[0] = (char *)arg.exec;
        memcpy(argv + 1, arg.extra_args, n * sizeof *argv);
        execvp(arg.exec, argv);
        fprintf(stderr, "Error: %s: %m\n", arg.exec);
        finish(EXIT_GENERIC);
}

static bool all_sent(void) {
        for (size_t i = 0; i < standin.n_connections; i++)
                if (has_more(standin.connections + i))
                        return false;
        return true;
}

int main(int argc, char **argv) {
        Buffer config = {};

        vm_init(&vm);
        parse_arguments(argc, argv);
        take_signals();
        if (arg.config_file)
                config = read_config_file();
        if (arg.log)
                standin.log = open(arg.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);

        if (!arg.no_api)
                listen_on_socket();
        if (arg.config_file && !vm_configure(&vm, config.data ?: "", config.size)) {
                fprintf(stderr,
                        "Error: Failed to build MicroVM from Json: Configuration for VMM from one single json failed: %s\n",
                        vm.fault);
                finish(EXIT_GENERIC);
        }
        buffer_free(&config);
        if (arg.paused)
                vm.state = VM_PAUSED;
        if (arg.exit_after_usec != USEC_INFINITY)
                standin.exit_usec = now_usec() + arg.exit_after_usec;
        else
                standin.exit_usec = USEC_INFINITY;
        misbehave_at_start();

        for (;;) {
                uint64_t now = now_usec();

                if (now >= standin.exit_usec)
                        finish(arg.exit_code);
                if (now >= vm.reset_usec)
                        finish(0);
                if (!standin.is_up && vm.state == VM_RUNNING)
                        greet();
                if (arg.exec && vm.state != VM_NOT_STARTED && all_sent())
                        execute();
                serve();
        }
}
