/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Which memory this machine's owner lets tests use: the parameter "allowed". */
#ifndef ALLOWED_H
#define ALLOWED_H

#include <linux/types.h>

/* Reads the parameter. Returns 0 or a negative errno, with the reason in the kernel's log. */
int allowed_init(void);

/* Is the machine ours to destroy? */
bool allowed_everything(void);

/* Does all of this lie in one of the ranges that are named, and is none of it RAM? */
bool allowed_range(u64 start, u64 pages);

/* May /dev/memtype be asked for this at all? argument is the command's own. */
bool allowed_command(unsigned int command, const void *argument);

#endif
