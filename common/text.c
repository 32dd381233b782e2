/* SPDX-License-Identifier: MIT */
/* Text that somebody else wrote, made fit for a message or a line of the log. */

#include <stdint.h>
#include <string.h>

#include "common/text.h"

size_t utf8_sequence(const char *s, size_t available) {
        const unsigned char *u = (const unsigned char *)s;
        uint32_t c;
        size_t n;

        if (available == 0)
                return 0;
        if (u[0] < 0x80)
                return 1;
        if (u[0] >= 0xc2 && u[0] <= 0xdf) {
                n = 2;
                c = u[0] & 0x1f;
        } else if (u[0] >= 0xe0 && u[0] <= 0xef) {
                n = 3;
                c = u[0] & 0x0f;
        } else if (u[0] >= 0xf0 && u[0] <= 0xf4) {
                n = 4;
                c = u[0] & 0x07;
        } else
                return 0;
        if (n > available)
                return 0;
        for (size_t i = 1; i < n; i++) {
                if ((u[i] & 0xc0) != 0x80)
                        return 0;
                c = (c << 6) | (u[i] & 0x3f);
        }
        if ((n == 3 && c < 0x800) || (n == 4 && (c < 0x10000 || c > 0x10ffff)) ||
            (c >= 0xd800 && c <= 0xdfff))
                return 0;
        return n;
}

/* C0 and C1 (U+0080 to U+009F, which some terminals obey) and DEL. */
bool text_is_control(const char *s, size_t sequence) {
        const unsigned char *u = (const unsigned char *)s;

        return sequence == 1 ? u[0] < 0x20 || u[0] == 0x7f
                             : sequence == 2 && u[0] == 0xc2 && u[1] < 0xa0;
}

static void copy_text(const char *text, bool keep_lines, char *ret, size_t size) {
        static const char replacement[] = "\xef\xbf\xbd";
        size_t left = strlen(text), used = 0;

        while (left > 0) {
                size_t n = utf8_sequence(text, left), out = n > 0 ? n : 3;
                const char *from = n > 0 ? text : replacement;

                if (used + out >= size)
                        break;
                if (n > 0 && text_is_control(text, n) &&
                    !(keep_lines && (*text == '\n' || *text == '\t'))) {
                        from = " ";
                        out = 1;
                }
                memcpy(ret + used, from, out);
                used += out;
                text += n > 0 ? n : 1;
                left -= n > 0 ? n : 1;
        }
        ret[used] = '\0';
}

void text_make_printable(const char *text, char *ret, size_t size) {
        copy_text(text, false, ret, size);
}

void text_make_valid(const char *text, char *ret, size_t size) {
        copy_text(text, true, ret, size);
}
