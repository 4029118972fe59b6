/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The PCI device whose memory tests use. */
#ifndef TEST_DEVICE_H
#define TEST_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

/* The prefetchable BAR the tests use. */
struct test_device {
	char address[32];	/* 0000:00:01.0 */
	unsigned int bar;
	uint64_t start;
	uint64_t size;
};

extern struct test_device test_device;

/*
 * That of our guests' own test device, else the largest prefetchable BAR there is; on a machine that
 * isn't ours, the one that is allowed. False when there is none.
 */
bool test_device_find(struct test_device *found);
/* The memory BAR of any PCI device that this address is in. False when there is none. */
bool test_device_holding(uint64_t start, struct test_device *found);

#endif
