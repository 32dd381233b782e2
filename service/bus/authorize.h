/* SPDX-License-Identifier: MIT */
#pragma once

/* Asking polkit. What it needs: a call that has begun. What it does:
 *
 *  1. uid 0 is allowed without asking.
 *  2. Otherwise polkit is asked (polkit.h), with the caller's unique bus name as the subject (never
 *     a pid) and the validated details; call_authorize() returns 1, and the handler returns.
 *  3. On the answer the handler is run again; it looks everything up again and comes to
 *     call_authorize() again, which finds the answer. If action or details are no longer those that
 *     were asked about, polkit is asked once more; the second time the call is denied.
 *
 * 0 means allowed, negative denied (error is set). polkit absent, dying or failing: denied. */

#include "bus/authorization.h"

struct Call;

#define ACTION_INSPECT "org.banger.fcproc.inspect"
#define ACTION_WAIT_FOR_EXIT "org.banger.fcproc.wait-for-exit"
#define ACTION_ENSURE_SOCKET_DIR "org.banger.fcproc.ensure-socket-dir"
#define ACTION_ENSURE_SOCKET_ACCESS "org.banger.fcproc.ensure-socket-access"
#define ACTION_SEND_CTRL_ALT_DEL "org.banger.fcproc.send-ctrl-alt-del"
#define ACTION_SHUTDOWN "org.banger.fcproc.shutdown"
#define ACTION_KILL "org.banger.fcproc.kill"
#define ACTION_DELETE_TAP "org.banger.fcproc.delete-tap"
#define ACTION_CREATE_TAP "org.banger.fcproc.create-tap"
#define ACTION_MANAGE_BRIDGE "org.banger.fcproc.manage-bridge"
#define ACTION_MANAGE_OTHERS "org.banger.fcproc.manage-others"

/* action: for one's own objects. Where details name another owner_uid than the caller (has_owner),
 * manage-others is asked for instead. */
int call_authorize(struct Call *call, const char *action, const Details *details);
