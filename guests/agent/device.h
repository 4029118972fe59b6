/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The module's device, and the PCI device whose memory tests use. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_BYTES 4096UL

/* The prefetchable BAR the tests use. */
struct test_device {
	char address[32];	/* 0000:00:01.0 */
	unsigned int bar;
	uint64_t start;
	uint64_t size;
};

extern int device_fd;		/* /dev/memtype; -1 on a kernel that the module can't be built for */
extern struct test_device device_under_test;

/*
 * The largest prefetchable BAR there is; on a machine that isn't ours, the one that is allowed.
 * False when there is none.
 */
bool device_find(struct test_device *found);

#endif
