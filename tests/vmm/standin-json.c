/* SPDX-License-Identifier: MIT */
/* Growing buffers, and a strict reader for the JSON bodies that the stand-in understands. The wording of the faults, and the line
 * and column in them, follow serde_json, as seen in a real Firecracker's answers. Not imitated: arrays in place of objects,
 * objects in place of enum values, and the check for valid UTF-8. */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "standin.h"

uint64_t now_usec(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

void buffer_append(Buffer *b, const void *data, size_t size) {
        if (size == 0)
                return;
        if (b->allocated - b->size < size) {
                b->allocated = (b->size + size) * 2;
                b->data = realloc(b->data, b->allocated);
                if (!b->data)
                        abort();
        }
        memcpy(b->data + b->size, data, size);
        b->size += size;
}

void buffer_printf(Buffer *b, const char *format, ...) {
        va_list ap;
        char *s;
        int n;

        va_start(ap, format);
        n = vasprintf(&s, format, ap);
        va_end(ap);
        if (n < 0)
                abort();
        buffer_append(b, s, (size_t)n);
        free(s);
}

void buffer_json_string(Buffer *b, const char *s) {
        static const char plain[] = "\bb\tt\nn\ff\rr\"\"\\\\";

        buffer_append(b, "\"", 1);
        for (; *s; s++) {
                const char *p = NULL;

                for (size_t i = 0; i + 1 < sizeof(plain); i += 2)
                        if (plain[i] == *s)
                                p = plain + i + 1;
                if (p)
                        buffer_printf(b, "\\%c", *p);
                else if ((unsigned char)*s < 0x20)
                        buffer_printf(b, "\\u%04x", (unsigned)*s);
                else
                        buffer_append(b, s, 1);
        }
        buffer_append(b, "\"", 1);
}

void buffer_free(Buffer *b) {
        free(b->data);
        *b = (Buffer){};
}

/* Says what is wrong, and where: after the bytes consumed, or one further when the fault is a byte only looked at. */
__attribute__((format(printf, 3, 4))) static bool json_fail(Json *j, bool looked_at,
                                                            const char *format, ...) {
        size_t end = j->position + looked_at, line = 1, column = 0, n;
        va_list ap;

        if (end > j->size)
                end = j->size;
        for (size_t i = 0; i < end; i++)
                if (j->text[i] == '\n') {
                        line++;
                        column = 0;
                } else
                        column++;

        va_start(ap, format);
        vsnprintf(j->error, sizeof j->error, format, ap);
        va_end(ap);
        n = strlen(j->error);
        snprintf(j->error + n, sizeof j->error - n, " at line %zu column %zu", line, column);
        return false;
}

/* The next byte that is not blank; -1 at the end. */
static int json_peek(Json *j) {
        while (j->position < j->size && memchr(" \t\r\n", j->text[j->position], 4))
                j->position++;
        return j->position < j->size ? (unsigned char)j->text[j->position] : -1;
}

static void put_utf8(char *s, size_t *n, unsigned c) {
        if (*n + 4 >= JSON_STRING_MAX)
                return;
        if (c < 0x80)
                s[(*n)++] = (char)c;
        else if (c < 0x800) {
                s[(*n)++] = (char)(0xc0 | c >> 6);
                s[(*n)++] = (char)(0x80 | (c & 0x3f));
        } else {
                s[(*n)++] = (char)(0xe0 | c >> 12);
                s[(*n)++] = (char)(0x80 | (c >> 6 & 0x3f));
                s[(*n)++] = (char)(0x80 | (c & 0x3f));
        }
}

/* From the opening quote on. What does not fit is dropped: nothing that long is of use here. */
static bool json_string(Json *j, char *s) {
        static const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
        size_t n = 0;

        for (j->position++;;) {
                unsigned char c;

                if (j->position >= j->size)
                        return json_fail(j, false, "EOF while parsing a string");
                c = (unsigned char)j->text[j->position++];
                if (c == '"')
                        break;
                if (c < 0x20)
                        return json_fail(j, false,
                                         "control character (\\u0000-\\u001F) found while parsing a string");
                if (c == '\\') {
                        const char *p = NULL;

                        if (j->position >= j->size)
                                return json_fail(j, false, "EOF while parsing a string");
                        c = (unsigned char)j->text[j->position++];
                        for (size_t i = 0; i + 1 < sizeof(escapes); i += 2)
                                if ((unsigned char)escapes[i] == c)
                                        p = escapes + i + 1;
                        if (p)
                                c = (unsigned char)*p;
                        else {
                                char hex[5] = {};

                                if (c != 'u' || j->size - j->position < 4)
                                        return json_fail(j, false, "invalid escape");
                                memcpy(hex, j->text + j->position, 4);
                                if (strspn(hex, "0123456789abcdefABCDEF") != 4)
                                        return json_fail(j, false, "invalid escape");
                                j->position += 4;
                                put_utf8(s, &n, (unsigned)strtoul(hex, NULL, 16));
                                continue;
                        }
                }
                if (n + 1 < JSON_STRING_MAX)
                        s[n++] = (char)c;
        }
        s[n] = 0;
        return true;
}

/* One number, true, false or null; "what" says it in serde's words. */
static bool json_scalar(Json *j, char *what, size_t size) {
        static const char *const words[] = {"null", "true", "false"};
        const char *p = j->text + j->position;
        size_t left = j->size - j->position, n = 0;

        for (size_t i = 0; i < 3; i++)
                if (left >= strlen(words[i]) && memcmp(p, words[i], strlen(words[i])) == 0) {
                        j->position += strlen(words[i]);
                        if (i == 0)
                                snprintf(what, size, "null");
                        else
                                snprintf(what, size, "boolean `%s`", words[i]);
                        return true;
                }

        while (n < left && p[n] && strchr("0123456789+-.eE", p[n]))
                n++;
        if (n == 0 || !strchr("-0123456789", p[0]) || (p[0] == '-' && n == 1))
                return json_fail(j, true, left ? "expected value" : "EOF while parsing a value");
        j->position += n;
        snprintf(what, size, "%s `%.*s`",
                 memchr(p, '.', n) || memchr(p, 'e', n) || memchr(p, 'E', n) ? "floating point"
                                                                             : "integer",
                 (int)(n > 40 ? 40 : n), p);
        return true;
}

static bool json_skip(Json *j, unsigned depth);

/* A value that is not of the expected kind: it is read so far that the fault stands where serde puts it. */
static bool json_wrong_type(Json *j, const char *expected) {
        char s[JSON_STRING_MAX], what[64];

        switch (json_peek(j)) {
        case '{':
                return json_fail(j, false, "invalid type: map, expected %s", expected);
        case '[':
                return json_fail(j, false, "invalid type: sequence, expected %s", expected);
        case '"':
                return json_string(j, s) &&
                       json_fail(j, false, "invalid type: string \"%.200s\", expected %s", s,
                                 expected);
        default:
                return json_scalar(j, what, sizeof what) &&
                       json_fail(j, false, "invalid type: %s, expected %s", what, expected);
        }
}

bool json_read_string(Json *j, void *into) {
        return json_peek(j) == '"' ? json_string(j, into) : json_wrong_type(j, "a string");
}

static bool json_null(Json *j) {
        if (json_peek(j) != 'n' || j->size - j->position < 4 ||
            memcmp(j->text + j->position, "null", 4) != 0)
                return false;
        j->position += 4;
        return true;
}

bool json_read_optional_string(Json *j, void *into) {
        return json_null(j) || json_read_string(j, into);
}

bool json_read_bool(Json *j, void *into) {
        int c = json_peek(j);
        char what[64];

        if (c != 't' && c != 'f')
                return json_wrong_type(j, "a boolean");
        *(bool *)into = c == 't';
        return json_scalar(j, what, sizeof what);
}

static bool json_unsigned(Json *j, uint64_t *into, uint64_t max, const char *expected) {
        size_t start;
        char what[64], digits[24] = {};
        int c = json_peek(j);

        if (c != '-' && (c < '0' || c > '9'))
                return json_wrong_type(j, expected);
        start = j->position;
        if (!json_scalar(j, what, sizeof what))
                return false;
        if (what[0] == 'f')
                return json_fail(j, false, "invalid type: %s, expected %s", what, expected);
        if (c == '-' || j->position - start > 19)
                return json_fail(j, false, "invalid value: %s, expected %s", what, expected);
        memcpy(digits, j->text + start, j->position - start);
        *into = strtoull(digits, NULL, 10);
        return *into <= max || json_fail(j, false, "invalid value: %s, expected %s", what, expected);
}

bool json_read_u8(Json *j, void *into) {
        return json_unsigned(j, into, UINT8_MAX, "u8");
}

bool json_read_usize(Json *j, void *into) {
        return json_unsigned(j, into, UINT64_MAX, "usize");
}

static bool json_unknown(Json *j, const char *kind, const char *name, const char *const *expected,
                         size_t n) {
        char list[512] = "";
        size_t used = 0;

        for (size_t i = 0; i < n && used < sizeof list; i++)
                used += (size_t)snprintf(list + used, sizeof list - used, "%s`%s`",
                                         i == 0   ? ""
                                         : n == 2 ? " or "
                                                  : ", ",
                                         expected[i]);
        return json_fail(j, false, "unknown %s `%.300s`, expected %s%s", kind, name,
                         n > 2 ? "one of " : "", list);
}

bool json_read_variant(Json *j, const char *const *variants, size_t *index) {
        char s[JSON_STRING_MAX];
        size_t n = 0;

        if (json_peek(j) != '"')
                return json_fail(j, true,
                                 json_peek(j) < 0 ? "EOF while parsing a value" : "expected value");
        if (!json_string(j, s))
                return false;
        for (; variants[n]; n++)
                if (strcmp(variants[n], s) == 0) {
                        *index = n;
                        return true;
                }
        return json_unknown(j, "variant", s, variants, n);
}

/* After a member: 1 another follows, 0 the end, -1 a fault. "close" is the bracket that ends it. */
static int json_next(Json *j, bool first, int close) {
        int c = json_peek(j);

        if (c == close) {
                j->position++;
                return 0;
        }
        if (c >= 0 && first)
                return 1;
        if (c == ',') {
                j->position++;
                if (json_peek(j) != close)
                        return 1;
                json_fail(j, true, "trailing comma");
        } else if (c < 0)
                json_fail(j, true, "EOF while parsing %s", close == '}' ? "an object" : "a list");
        else
                json_fail(j, true, "expected `,` or `%c`", close);
        return -1;
}

static bool json_key(Json *j, char *key) {
        int c = json_peek(j);

        if (c != '"')
                return json_fail(j, true,
                                 c < 0 ? "EOF while parsing a value" : "key must be a string");
        return json_string(j, key);
}

static bool json_colon(Json *j) {
        int c = json_peek(j);

        if (c != ':')
                return json_fail(j, true, c < 0 ? "EOF while parsing an object" : "expected `:`");
        j->position++;
        return true;
}

static bool json_skip(Json *j, unsigned depth) {
        int c = json_peek(j), r;
        char s[JSON_STRING_MAX], what[64];

        if (c == '"')
                return json_string(j, s);
        if (c != '{' && c != '[')
                return json_scalar(j, what, sizeof what);
        if (depth > 100)
                return json_fail(j, true, "recursion limit exceeded");

        j->position++;
        for (bool first = true; (r = json_next(j, first, c == '{' ? '}' : ']')) > 0; first = false) {
                if (c == '{' && (!json_key(j, s) || !json_colon(j)))
                        return false;
                if (!json_skip(j, depth + 1))
                        return false;
        }
        return r == 0;
}

bool json_read_object(Json *j, const char *what, JsonField *fields, size_t n_fields, bool others_too) {
        char key[JSON_STRING_MAX];
        int c = json_peek(j), r;

        if (c < 0)
                return json_fail(j, true, "EOF while parsing a value");
        if (c != '{')
                return json_wrong_type(j, what);

        j->position++;
        for (bool first = true; (r = json_next(j, first, '}')) > 0; first = false) {
                JsonField *f = NULL;

                if (!json_key(j, key))
                        return false;
                for (size_t i = 0; i < n_fields; i++)
                        if (strcmp(fields[i].name, key) == 0)
                                f = fields + i;
                if (!f && !others_too) {
                        const char *names[16];

                        for (size_t i = 0; i < n_fields && i < 16; i++)
                                names[i] = fields[i].name;
                        return json_unknown(j, "field", key, names, n_fields);
                }
                if (f && f->seen)
                        return json_fail(j, false, "duplicate field `%s`", key);
                if (!json_colon(j))
                        return false;
                if (json_peek(j) < 0)
                        return json_fail(j, true, "EOF while parsing a value");
                if (!(f && f->read ? f->read(j, f->into) : json_skip(j, 0)))
                        return false;
                if (f)
                        f->seen = true;
        }
        if (r < 0)
                return false;

        for (size_t i = 0; i < n_fields; i++)
                if (fields[i].required && !fields[i].seen)
                        return json_fail(j, false, "missing field `%s`", fields[i].name);
        return true;
}

bool json_read_array(Json *j, bool (*read)(Json *j, void *into), void *into) {
        int r;

        if (json_peek(j) != '[')
                return json_wrong_type(j, "a sequence");
        j->position++;
        for (bool first = true; (r = json_next(j, first, ']')) > 0; first = false)
                if (!read(j, into))
                        return false;
        return r == 0;
}

bool json_end(Json *j) {
        return json_peek(j) < 0 || json_fail(j, true, "trailing characters");
}
