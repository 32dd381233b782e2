/* SPDX-License-Identifier: MIT */
/* The user's language. Of his locale only the letters and the messages are taken: numbers are
 * written, and read, as in the configuration and in JSON. */

#include <locale.h>

#include "i18n.h"

void i18n_start(void) {
        (void)setlocale(LC_CTYPE, "");
        i18n_for_people(true);
        (void)bindtextdomain(GETTEXT_DOMAIN, LOCALEDIR);
        /* as all other texts, of the sources and of the bus */
        (void)bind_textdomain_codeset(GETTEXT_DOMAIN, "UTF-8");
        (void)textdomain(GETTEXT_DOMAIN);
}

void i18n_for_people(bool people) {
        (void)setlocale(LC_MESSAGES, people ? "" : "C");
}
