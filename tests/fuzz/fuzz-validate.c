/* SPDX-License-Identifier: MIT */
/* Guards common/validate.c: whatever is given, no check reads beyond it, what passes is what it is
 * said to be, and text leaves as valid UTF-8 within its room. */

#include "common/text.h"
#include "common/validate.h"
#include "fuzz.h"

static void check_text(const char *text, size_t size, bool lines) {
        char *out = malloc(size);
        size_t n;

        if (!out)
                abort();
        (lines ? text_make_valid : text_make_printable)(text, out, size);
        n = strlen(out);
        assert(n < size);
        for (size_t i = 0; i < n;) {
                size_t k = utf8_sequence(out + i, n - i);

                assert(k > 0);
                assert(k > 1 || (unsigned char)out[i] >= 0x20 || (lines && strchr("\n\t", out[i])));
                i += k;
        }
        free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = fuzz_text(data, size);
        char *prefixes[] = {(char[]){"tap"}, NULL};
        uint8_t mac[6];
        uint64_t number;
        char again[24];
        Failure f;

        if (tap_name_check(text, prefixes, &f) == 0)
                assert(link_name_valid(text) && strlen(text) < 16 && !strpbrk(text, "/% \n"));
        if (socket_path_check(text, &f) == 0)
                assert(text[0] == '/' && !strstr(text, "//") && !strstr(text, "/../") &&
                       !strpbrk(text, "\n\x1b"));
        if (label_check(text, &f) == 0)
                assert(strlen(text) <= 64 && !strpbrk(text, "<>\n"));
        if (mac_check(text, mac, &f) == 0) {
                mac_format(mac, again);
                assert(strcasecmp(text, again) == 0 && !(mac[0] & 1));
        }
        if (number_parse(text, UINT64_MAX, &number))
                assert(strspn(text, "0123456789") == strlen(text) &&
                       strtoull(text, NULL, 10) == number);
        for (size_t room = 1; room < 70; room += 3) {
                check_text(text, room, false);
                check_text(text, room, true);
        }
        check_text(text, 3 * size + 1, false);
        (void)failure_set(&f, FAILURE_VMM_REFUSED, "%s", text);
        (void)utf8_sequence((const char *)data, size);
        return 0;
}
