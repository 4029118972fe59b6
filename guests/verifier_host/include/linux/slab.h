/* SPDX-License-Identifier: MIT */
/* The kernel's allocator: counted, and failing when told to. See library.c. */
#ifndef HOST_LINUX_SLAB_H
#define HOST_LINUX_SLAB_H

#include <linux/types.h>
#include <string.h>

typedef unsigned int gfp_t;

#define GFP_KERNEL 1U
#define __GFP_NOFAIL 2U

void *kzalloc(size_t size, gfp_t flags);
void kfree(const void *memory);

static inline void *kmemdup(const void *from, size_t size, gfp_t flags)
{
	void *copy = kzalloc(size, flags);

	return copy ? memcpy(copy, from, size) : NULL;
}

#endif
