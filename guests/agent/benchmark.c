// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The verb that measures the verifier beside the kernel. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "agent.h"

static void benchmark_write_rounds(struct buffer *reply, const char *name, const __u64 *rounds,
				   unsigned int count)
{
	unsigned int n;

	buffer_print(reply, ", \"%s\": [", name);
	for (n = 0; n < count; n++)
		buffer_print(reply, "%s%llu", n ? ", " : "", rounds[n]);
	buffer_print(reply, "]");
}

void benchmark_run(const struct request *request, struct buffer *reply)
{
	struct memtype_benchmark wanted = { 0 };
	uint64_t records, operations, rounds, overlapping, kernel;

	if (!request_number(request, "records", &records, reply) ||
	    !request_number(request, "operations", &operations, reply) ||
	    !request_number(request, "rounds", &rounds, reply) ||
	    !request_number_or(request, "overlapping", 0, &overlapping, reply) ||
	    !request_number_or(request, "kernel", 1, &kernel, reply))
		return;
	if (records > UINT32_MAX || operations > UINT32_MAX || rounds > UINT32_MAX) {
		buffer_error(reply, "benchmark: no number may have more than 32 bits");
		return;
	}
	wanted.records = records;
	wanted.operations = operations;
	wanted.rounds = rounds;
	wanted.overlapping = overlapping != 0;
	wanted.with_kernel = kernel != 0;
	if (ioctl(device_fd, MEMTYPE_BENCHMARK, &wanted)) {
		answer_refusal(request, -errno, reply);
		return;
	}
	buffer_print(reply, "{\"bytes_per_record\": %u, \"tsc\": %llu", wanted.bytes_per_record, wanted.tsc);
	benchmark_write_rounds(reply, "check_cycles", wanted.check_cycles, wanted.rounds);
	benchmark_write_rounds(reply, "track_cycles", wanted.track_cycles, wanted.rounds);
	benchmark_write_rounds(reply, "kernel_cycles", wanted.kernel_cycles,
			       wanted.with_kernel ? wanted.rounds : 0);
	buffer_print(reply, "}");
}
