/* SPDX-License-Identifier: MIT */
/* Everything that goes to stdout passes here, so that it is in one place that colour is only for
 * terminals, that a reader who has seen enough (EPIPE) ends us quietly, and that a full disk or a
 * closed stdout is a failure and not a success with half a list. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <wchar.h>

#include "common/text.h"
#include "i18n.h"
#include "output.h"
#include "report.h"

static bool status_shown;
static pid_t pager;
static int write_error;

const char *output_colour(FILE *stream, Colour colour) {
        static const char *const sequences[] = {
                [COLOUR_NONE] = "\033[0m", [COLOUR_GOOD] = "\033[32m", [COLOUR_WARN] = "\033[33m",
                [COLOUR_BAD] = "\033[31m", [COLOUR_HEAD] = "\033[4m",
        };
        const char *none = getenv("NO_COLOR"), *term = getenv("TERM");

        if ((none && *none) || !term || strcmp(term, "dumb") == 0)
                return "";
        if (!isatty(fileno(stream)) && !(stream == stdout && pager > 0))
                return "";
        return sequences[colour];
}

int output_json_flags(const Ctl *ctl) {
        return JSON_C_TO_STRING_NOSLASHESCAPE |
               (ctl->json == JSON_PRETTY ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED
                                         : JSON_C_TO_STRING_PLAIN);
}

/* The reason is only there right after the call that failed. */
static void flush(void) {
        if ((fflush(stdout) != 0 || ferror(stdout)) && write_error == 0)
                write_error = errno ?: EIO;
}

void output_json(const Ctl *ctl, json_object *o) {
        errno = 0;
        output_status_clear();
        (void)printf("%s\n", json_object_to_json_string_ext(o, output_json_flags(ctl)));
        flush();
        (void)json_object_put(o);
}

void output_json_line(const Ctl *ctl, json_object *o) {
        errno = 0;
        (void)printf("%s\n",
                     json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                                               JSON_C_TO_STRING_NOSLASHESCAPE));
        flush();
        (void)json_object_put(o);
}

void output_line(const Ctl *ctl, const char *format, ...) {
        char raw[8192], line[8192];
        va_list args;

        if (ctl->json != JSON_OFF)
                return;
        va_start(args, format);
        (void)vsnprintf(raw, sizeof(raw), format, args);
        va_end(args);
        text_make_printable(raw, line, sizeof(line));
        output_text(ctl, "%s", line);
}

void output_text(const Ctl *ctl, const char *format, ...) {
        va_list args;

        if (ctl->json != JSON_OFF)
                return;
        errno = 0;
        output_status_clear();
        va_start(args, format);
        (void)vprintf(format, args);
        va_end(args);
        (void)putchar('\n');
        flush();
}

/* --- tables --- */

struct Table {
        size_t columns, n;
        char **cells;
};

Table *table_new(size_t columns) {
        Table *t = calloc(1, sizeof(*t));

        if (!t)
                abort();
        t->columns = columns;
        return t;
}

void table_free(Table *t) {
        for (size_t i = 0; i < t->n; i++)
                free(t->cells[i]);
        free(t->cells);
        free(t);
}

void table_add(Table *t, const char *format, ...) {
        char raw[512], cell[512];
        char **cells;
        va_list args;

        va_start(args, format);
        (void)vsnprintf(raw, sizeof(raw), format, args);
        va_end(args);
        text_make_printable(raw, cell, sizeof(cell));
        cells = reallocarray(t->cells, t->n + 1, sizeof(*cells));
        if (!cells)
                abort();
        t->cells = cells;
        t->cells[t->n] = strdup(*cell ? cell : "-");
        if (!t->cells[t->n++])
                abort();
}

int output_width(const char *text) {
        wchar_t wide[512];
        size_t n = mbstowcs(wide, text, ELEMENTS(wide));

        return n == (size_t)-1 || n >= ELEMENTS(wide) ? (int)strlen(text)
               : wcswidth(wide, n) > 0                ? wcswidth(wide, n)
                                                      : 0;
}

void table_print(const Ctl *ctl, Table *t, const char *count, ...) {
        size_t rows = t->n / t->columns;
        va_list args;
        int *width = calloc(t->columns, sizeof(*width));

        if (!width)
                abort();
        errno = 0;
        for (size_t i = ctl->no_legend ? t->columns : 0; i < t->n; i++)
                if (output_width(t->cells[i]) > width[i % t->columns])
                        width[i % t->columns] = output_width(t->cells[i]);
        for (size_t row = ctl->no_legend ? 1 : 0; row < rows; row++) {
                if (row == 0)
                        (void)fputs(output_colour(stdout, COLOUR_HEAD), stdout);
                for (size_t column = 0; column < t->columns; column++) {
                        const char *cell = t->cells[row * t->columns + column];
                        bool last = column + 1 == t->columns;

                        (void)printf("%s%*s", cell,
                                     last ? 0 : width[column] - output_width(cell) + 1, "");
                }
                (void)printf("%s\n", row == 0 ? output_colour(stdout, COLOUR_NONE) : "");
        }
        if (!ctl->no_legend) {
                (void)putchar('\n');
                va_start(args, count);
                (void)vprintf(count, args);
                va_end(args);
                (void)putchar('\n');
        }
        flush();
        free(width);
}

/* --- the pager --- */

void output_page(const Ctl *ctl) {
        /* of the environment that sudo passes on, none is run as root */
        const char *command = getenv("SUDO_UID") ? NULL : getenv("PAGER");
        int fds[2];

        if (ctl->no_pager || ctl->json != JSON_OFF || !isatty(STDOUT_FILENO) ||
            (command && (!*command || strcmp(command, "cat") == 0)))
                return;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return;
        pager = fork();
        if (pager == 0) {
                (void)dup2(fds[0], STDIN_FILENO);
                (void)signal(SIGPIPE, SIG_DFL);
                /* one screen needs no pager; ours is no place to start editors from */
                (void)setenv("LESS", "FRSXMK", 0);
                (void)setenv("LESSSECURE", "1", 1);
                if (command)
                        (void)execl("/bin/sh", "sh", "-c", command, NULL);
                (void)execlp("less", "less", NULL);
                (void)execlp("cat", "cat", NULL);
                _exit(127);
        }
        if (pager > 0) {
                (void)dup2(fds[1], STDOUT_FILENO);
                /* Ctrl-C is the pager's now: were we gone, the shell would take the terminal from it */
                (void)signal(SIGINT, SIG_IGN);
                (void)signal(SIGQUIT, SIG_IGN);
        }
        (void)close(fds[0]);
        (void)close(fds[1]);
}

/* --- the line that is written over --- */

bool output_status(const Ctl *ctl, const char *format, ...) {
        char text[512], line[512];
        struct winsize size;
        va_list args;
        size_t n;

        if (ctl->quiet || ctl->json != JSON_OFF || !isatty(STDERR_FILENO))
                return false;
        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        n = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
        text_make_printable(text, line, MIN_OF(n, sizeof(line)));
        (void)fprintf(stderr, "\r\033[K%s", line);
        (void)fflush(stderr);
        return status_shown = true;
}

void output_status_clear(void) {
        if (status_shown)
                (void)fputs("\r\033[K", stderr);
        status_shown = false;
}

bool output_broken(void) {
        return write_error != 0;
}

int output_end(const Ctl *ctl, int code) {
        errno = 0;
        output_status_clear();
        flush();
        if (pager > 0) {
                /* the pager has it all when the last writing end is closed */
                (void)fclose(stdout);
                while (waitpid(pager, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
        /* Who reads only the first lines, as head does, has what he wanted. */
        if (write_error != 0 && write_error != EPIPE)
                (void)report_failure(ctl, 0, SD_BUS_ERROR_IO_ERROR,
                                     _("Cannot write the output: %s"), strerror(write_error));
        if (write_error != 0 && write_error != EPIPE && code == CODE_DONE)
                code = CODE_FAILED;
        return code;
}
