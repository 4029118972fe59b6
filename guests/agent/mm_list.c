// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The verb that lists the address spaces of all processes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "agent.h"

void mm_list_run(const struct request *request, struct buffer *reply)
{
	struct memtype_mm_list list = { 0 };
	struct memtype_mm *found = NULL;
	unsigned int n;

	do {
		/* Asked again when there are more than were room for; most guests have fewer than 64. */
		list.capacity = list.count + 64;
		free(found);
		found = calloc(list.capacity, sizeof(*found));
		list.buffer = (uintptr_t)found;
		if (!found || ioctl(device_fd, MEMTYPE_MM_LIST, &list)) {
			buffer_error(reply, "mm_list: %s", strerror(errno));
			free(found);
			return;
		}
	} while (list.count > list.capacity);
	buffer_print(reply, "{\"mm_list\": [");
	for (n = 0; n < list.count; n++) {
		buffer_print(reply, "%s[%llu, %d, ", n ? ", " : "", found[n].root, found[n].pid);
		buffer_json(reply, found[n].name, strnlen(found[n].name, sizeof(found[n].name)));
		buffer_print(reply, "]");
	}
	buffer_print(reply, "]}");
	free(found);
}
