// SPDX-License-Identifier: GPL-2.0 OR MIT
/* PAT, MTRRs and control registers of each CPU, as the module reads them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "agent.h"
#include "file.h"

#define ONLINE "/sys/devices/system/cpu/online"

/* The next range of a list such as "0,2-3"; text goes behind it. False at the end. */
static bool registers_next_range(const char **text, unsigned int *first, unsigned int *last)
{
	int length;

	if (sscanf(*text, " %u%n", first, &length) != 1)
		return false;
	*text += length;
	*last = *first;
	if (sscanf(*text, "-%u%n", last, &length) == 1)
		*text += length;
	*text += **text == ',';
	return true;
}

void registers_run(const struct request *request, struct buffer *reply)
{
	struct buffer online = { 0 };
	int error = file_read(ONLINE, &online);
	const char *text = online.data, *separator = "";
	unsigned int cpu, last;

	if (error) {
		buffer_error(reply, ONLINE ": %s", strerror(-error));
		goto free;
	}
	buffer_print(reply, "{\"cpus\": [");
	/* With holes, where a CPU has been turned off or is a second thread under "nosmt". */
	while (registers_next_range(&text, &cpu, &last))
		for (; cpu <= last; cpu++) {
			struct memtype_registers registers = { .cpu = cpu };

			if (ioctl(device_fd, MEMTYPE_READ_REGISTERS, &registers)) {
				buffer_clear(reply);
				answer_refusal(request, -errno, reply);
				goto free;
			}
			buffer_print(reply, "%s", separator);
			answer_registers(&registers, reply);
			separator = ", ";
		}
	buffer_print(reply, "]}");
free:
	buffer_free(&online);
}
