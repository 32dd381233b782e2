/* SPDX-License-Identifier: MIT */
#pragma once

/* A kernel that answers from a script, for service/link/netlink.c and what stands on it. The descriptor
 * below is a real AF_NETLINK socket; nothing is ever sent to it. */

#include <libmnl/libmnl.h>

#include "base/kernel.h"

/* In a message: what the request that waits for it has. */
#define FAKE_SEQUENCE 0
#define FAKE_PORT 0

/* Forgets the script and what was sent. */
void fake_reset(void);

/* The next send fails. */
void fake_refuse_send(int error);

/* The script, in order; when it is over, receiving gives -EAGAIN, as after the patience of 10 s. */
void fake_receive_error(int error);
void fake_datagram(void);
/* One more message in the datagram; payload and attributes are added with libmnl. */
struct nlmsghdr *fake_message(uint16_t type, uint16_t flags);
/* The datagram as these bytes; sequences and ports of 0 in them are filled in as above. */
void fake_bytes(const void *data, size_t size);
/* Of the datagram, only its first size bytes arrive. */
void fake_cut(size_t size);
/* It was longer than the reader's buffer. */
void fake_oversize(void);

/* Whole answers, each a datagram: an acknowledgement (error 0 or negative; text may be NULL). */
void fake_ack(int error, const char *text);
/* The end of a dump, with what the kernel says of it. */
void fake_done(int error, uint16_t flags);

/* What was sent, the oldest first; NULL where there was less. */
const struct nlmsghdr *fake_sent(unsigned n);
unsigned fake_sent_count(void);
unsigned fake_script_left(void);

/* What pidfd_info() tells next, after this many calls that tell nothing. */
void fake_exit(int wait_status, unsigned calls_before);
