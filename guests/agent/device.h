/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The module's device. */
#ifndef DEVICE_H
#define DEVICE_H

#define PAGE_BYTES 4096UL

extern int device_fd;		/* /dev/memtype; -1 on a kernel that the module can't be built for */

#endif
