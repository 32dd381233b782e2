/* SPDX-License-Identifier: MIT */
#pragma once

/* The kernel's reports of links (RTNLGRP_LINK), read in gulps: of a link that was reported a
 * thousand times only the newest report is taken apart. What must not be lost by that, a tap whose
 * holder had changed its MAC for a moment, is noticed in every report. */

#include "link/netlink.h"

typedef struct LinkReports LinkReports;

/* Once for each link of a gulp, in the order of their first reports. taken: a MAC that is not the
 * one that we gave, and that our tap had on a bridge after somebody had attached to it; or NULL. */
typedef void (*LinkReportFunction)(const Link *link, bool deleted, const uint8_t *taken,
                                   void *userdata);

int link_reports_new(LinkReports **ret);
void link_reports_free(LinkReports *reports);
int link_reports_fd(LinkReports *reports);

/* Reads what is there, without waiting and not for ever. -ENOBUFS: some were lost. What was read is
 * handed on in any case. */
int link_reports_read(LinkReports *reports, LinkReportFunction function, void *userdata);
