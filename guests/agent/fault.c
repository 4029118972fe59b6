// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Failures on demand. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent.h"

void fault_run(const struct request *request, struct buffer *reply)
{
	const char *function = request_text(request, "function");
	uint64_t pid, after, times, returns;
	struct memtype_fault fault = { 0 };

	if (!function || !*function || strlen(function) >= sizeof(fault.function)) {
		buffer_error(reply, "%s: function= is missing or longer than %zu characters",
			     request->verb, sizeof(fault.function) - 1);
		return;
	}
	if (!request_number(request, "pid", &pid, reply) ||
	    !request_number(request, "after", &after, reply) ||
	    !request_number(request, "times", &times, reply) ||
	    !request_number(request, "returns", &returns, reply))
		return;
	strcpy(fault.function, function);
	/* 0 is whoever carries out drivers' operations: init is somebody else in a distribution. */
	fault.pid = pid ? (pid_t)pid : getpid();
	fault.after = after;
	fault.times = times;
	fault.returns = returns;
	if (ioctl(device_fd, MEMTYPE_FAULT, &fault))
		answer_refusal(request, -errno, reply);
	else
		buffer_print(reply, "{\"handle\": %llu, \"errno\": %d}", fault.handle, fault.error);
}

void fault_run_calls(const struct request *request, struct buffer *reply)
{
	struct memtype_fault fault = { 0 };

	if (!request_number(request, "handle", (uint64_t *)&fault.handle, reply))
		return;
	if (ioctl(device_fd, MEMTYPE_FAULT_CALLS, &fault))
		buffer_error(reply, "%s: there is no fault %llu", request->verb, fault.handle);
	else
		buffer_print(reply, "{\"calls\": %d, \"failed\": %d}", fault.calls, fault.failed);
}

void fault_run_end(const struct request *request, struct buffer *reply)
{
	struct memtype_fault fault = { 0 };

	if (!request_number(request, "handle", (uint64_t *)&fault.handle, reply))
		return;
	if (ioctl(device_fd, MEMTYPE_FAULT_END, &fault))
		buffer_error(reply, "%s: there is no fault %llu", request->verb, fault.handle);
	else
		buffer_print(reply, "{}");
}
