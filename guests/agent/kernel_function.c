// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Calls of the kernel's own functions. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "agent.h"

/* Numbers with commas between them. False, with the error in reply, when they are too many, or none. */
static bool kernel_function_numbers(const struct request *request, const char *key, uint64_t *numbers,
				    unsigned int room, struct buffer *reply)
{
	const char *text = request_text(request, key);
	unsigned int n;
	char *end;

	for (n = 0; text && *text; n++) {
		errno = 0;
		if (n < room)
			numbers[n] = strtoull(text, &end, 10);
		if (n == room || end == text || (*end && *end != ',') || errno) {
			buffer_error(reply, "%s: %s= is not %u numbers or fewer", request->verb, key, room);
			return false;
		}
		text = *end ? end + 1 : end;
	}
	return true;
}

void kernel_function_run_call(const struct request *request, struct buffer *reply)
{
	const char *function = request_text(request, "function");
	struct memtype_kernel_call call = { 0 };
	uint64_t in_memory, only_find;
	unsigned int n;

	if (function && strlen(function) >= sizeof(call.function)) {
		buffer_error(reply, "%s: function= is longer than %zu characters", request->verb,
			     sizeof(call.function) - 1);
		return;
	}
	if (!request_number_or(request, "in_memory", 0, &in_memory, reply) ||
	    !request_number_or(request, "only_find", 0, &only_find, reply) ||
	    !request_number_or(request, "address", 0, (uint64_t *)&call.address, reply) ||
	    !kernel_function_numbers(request, "arguments", (uint64_t *)call.arguments,
				     ARRAY_SIZE(call.arguments), reply) ||
	    !kernel_function_numbers(request, "memory", (uint64_t *)call.memory,
				     ARRAY_SIZE(call.memory), reply))
		return;
	if (function)
		strcpy(call.function, function);
	call.in_memory = in_memory;
	call.only_find = only_find;
	if (ioctl(device_fd, MEMTYPE_KERNEL_CALL, &call)) {
		answer_refusal(request, -errno, reply);
		return;
	}
	buffer_print(reply, "{\"errno\": %d, \"address\": %llu, \"returned\": %llu, ", call.error,
		     call.address, call.returned);
	buffer_print(reply, "\"direct_map\": %llu, \"page_array\": %llu, \"page_bytes\": %u, \"memory\": [",
		     call.direct_map, call.page_array, call.page_bytes);
	for (n = 0; n < ARRAY_SIZE(call.memory); n++)
		buffer_print(reply, "%s%llu", n ? ", " : "", call.memory[n]);
	buffer_print(reply, "]}");
}

void kernel_function_run_pages(const struct request *request, struct buffer *reply)
{
	struct memtype_kernel_pages asked = { 0 };

	if (!request_number(request, "address", (uint64_t *)&asked.address, reply) ||
	    !request_number(request, "pages", (uint64_t *)&asked.pages, reply) ||
	    !request_number_or(request, "start", 0, (uint64_t *)&asked.start, reply))
		return;
	if (ioctl(device_fd, MEMTYPE_KERNEL_PAGES, &asked)) {
		answer_refusal(request, -errno, reply);
		return;
	}
	buffer_print(reply, "{\"maps\": %s, \"page_table\": ", asked.maps ? "true" : "false");
	answer_page_table(reply, &asked.page_table);
	buffer_print(reply, "}");
}
