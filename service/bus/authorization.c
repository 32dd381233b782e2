/* SPDX-License-Identifier: MIT */
#include "bus/authorization.h"
#include "bus/polkit.h"
#include "common/cleanup.h"

void authorization_clear(Authorization *a) {
        if (a->pending)
                polkit_forget(TAKE_PTR(a->pending));
        a->state = AUTHORIZATION_NOT_ASKED;
        free(TAKE_PTR(a->question));
}
