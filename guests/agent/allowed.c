// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See allowed.h. */
#include <stdlib.h>
#include <sys/ioctl.h>

#include "agent.h"
#include "allowed.h"
#include "file.h"
#include "options.h"

#define ALLOWED "/sys/module/" MEMTYPE_DEVICE "/parameters/allowed"

bool allowed_start(uint64_t *start)
{
	struct buffer text = { 0 };
	bool is_range;
	char *end;

	if (file_read(ALLOWED, &text))
		return false;
	*start = strtoull(text.data, &end, 0);
	is_range = *end == '-';
	buffer_free(&text);
	return is_range;
}

bool allowed_memory(uint64_t start, uint64_t pages, struct buffer *reply)
{
	struct memtype_range range = { .start = start, .pages = pages };

	/* Somebody's kernel may have refused the module that would answer. */
	if (device_fd < 0 ? options_own_machine() : !ioctl(device_fd, MEMTYPE_MAY_USE, &range))
		return true;
	answer_not_allowed(reply);
	return false;
}
