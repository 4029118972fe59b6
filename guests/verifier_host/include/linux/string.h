/* SPDX-License-Identifier: MIT */
#ifndef HOST_LINUX_STRING_H
#define HOST_LINUX_STRING_H

#include <linux/types.h>
#include <string.h>

/* Copies what fits, always ends it. Nobody here asks for the length it would return. */
static inline void strscpy(char *to, const char *from, size_t size)
{
	size_t length = strnlen(from, size - 1);

	memcpy(to, from, length);
	to[length] = 0;
}

#endif
