/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What another driver's mmap() has mapped into a process. */
#ifndef USER_DEVICE_H
#define USER_DEVICE_H

#include "memtype_uapi.h"

/* Fills in start and memtype. -ENODATA or -EXDEV where there is no one answer. */
int user_device_mapped(struct memtype_address *range);

#endif
