// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The verb that lists the address spaces of all processes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "agent.h"

void spaces_run(const struct request *request, struct buffer *reply)
{
	struct memtype_spaces spaces = { 0 };
	struct memtype_space *found = NULL;
	unsigned int n;

	do {
		/* Asked again when there are more than were room for; most guests have fewer than 64. */
		spaces.capacity = spaces.count + 64;
		free(found);
		found = calloc(spaces.capacity, sizeof(*found));
		spaces.buffer = (uintptr_t)found;
		if (!found || ioctl(device, MEMTYPE_SPACES, &spaces)) {
			buffer_error(reply, "spaces: %s", strerror(errno));
			free(found);
			return;
		}
	} while (spaces.count > spaces.capacity);
	buffer_print(reply, "{\"spaces\": [");
	for (n = 0; n < spaces.count; n++) {
		buffer_print(reply, "%s[%llu, %d, ", n ? ", " : "", found[n].root, found[n].pid);
		buffer_json(reply, found[n].name, strnlen(found[n].name, sizeof(found[n].name)));
		buffer_print(reply, "]");
	}
	buffer_print(reply, "]}");
	free(found);
}
