// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Verbs that need no process: asking the verifier, driver operations, and reading. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent.h"
#include "init.h"
#include "options.h"

static bool operation_call(unsigned long command, void *argument, const struct request *request,
			   struct buffer *reply)
{
	if (!ioctl(device_fd, command, argument))
		return true;
	answer_refusal(request, -errno, reply);
	return false;
}

static void operation_map(const struct request *request, enum memtype_call which,
			  struct buffer *reply)
{
	struct memtype_request asked;

	if (!request_fill(request, &asked, reply))
		return;
	asked.call = which;
	if (operation_call(MEMTYPE_MAP, &asked, request, reply))
		answer_outcome(reply, &asked);
}

static void operation_ioremap(const struct request *request, struct buffer *reply)
{
	operation_map(request, MEMTYPE_CALL_IOREMAP, reply);
}

static void operation_memremap(const struct request *request, struct buffer *reply)
{
	operation_map(request, MEMTYPE_CALL_MEMREMAP, reply);
}

static void operation_set_memory(const struct request *request, struct buffer *reply)
{
	operation_map(request, MEMTYPE_CALL_SET_MEMORY, reply);
}

static void operation_set_pages_array(const struct request *request, struct buffer *reply)
{
	operation_map(request, MEMTYPE_CALL_SET_PAGES_ARRAY, reply);
}

static void operation_reserve_wc(const struct request *request, struct buffer *reply)
{
	operation_map(request, MEMTYPE_CALL_RESERVE_WC, reply);
}

static void operation_phys_wc_add(const struct request *request, struct buffer *reply)
{
	operation_map(request, MEMTYPE_CALL_PHYS_WC_ADD, reply);
}

static void operation_memremap_pages(const struct request *request, struct buffer *reply)
{
	operation_map(request, MEMTYPE_CALL_MEMREMAP_PAGES, reply);
}

static void operation_vmap(const struct request *request, struct buffer *reply)
{
	operation_map(request, MEMTYPE_CALL_VMAP, reply);
}

static void operation_free_ram(const struct request *request, struct buffer *reply)
{
	struct memtype_registers registers = { 0 };
	struct memtype_request asked;

	if (!request_fill(request, &asked, reply) ||
	    !operation_call(MEMTYPE_FREE_RAM, &asked, request, reply) ||
	    !operation_call(MEMTYPE_READ_REGISTERS, &registers, request, reply))
		return;
	buffer_print(reply, "{\"outcome\": ");
	answer_outcome(reply, &asked);
	buffer_print(reply, ", \"registers\": ");
	answer_registers(&registers, reply);
	buffer_print(reply, "}");
}

static void operation_verify(const struct request *request, struct buffer *reply)
{
	const char *kind = request_text(request, "kind");
	struct memtype_request asked;

	if (!request_fill(request, &asked, reply))
		return;
	asked.kind = kind && !strcmp(kind, "user") ? MEMTYPE_USER : MEMTYPE_KERNEL;
	if (!operation_call(MEMTYPE_VERIFY, &asked, request, reply))
		return;
	buffer_print(reply, "{\"verdict\": ");
	answer_verdict(reply, &asked.verdict);
	buffer_print(reply, "}");
}

static void operation_release(const struct request *request, struct buffer *reply)
{
	struct memtype_handle handle = { 0 };

	if (!request_number(request, "handle", (uint64_t *)&handle.handle, reply))
		return;
	if (!ioctl(device_fd, MEMTYPE_RELEASE, &handle))
		buffer_print(reply, "{}");
	else
		buffer_error(reply, "release: there is no kernel mapping %llu", handle.handle);
}

static void operation_zap(const struct request *request, struct buffer *reply)
{
	struct memtype_range range = { 0 };

	if (request_number(request, "start", (uint64_t *)&range.start, reply) &&
	    request_number(request, "pages", (uint64_t *)&range.pages, reply) &&
	    operation_call(MEMTYPE_ZAP, &range, request, reply))
		buffer_print(reply, "{}");
}

static void operation_page_table(const struct request *request, struct buffer *reply)
{
	struct memtype_handle handle = { 0 };

	if (!request_number(request, "handle", (uint64_t *)&handle.handle, reply) ||
	    !operation_call(MEMTYPE_READ_MAPPING, &handle, request, reply))
		return;
	buffer_print(reply, "{\"page_table\": ");
	answer_page_table(reply, &handle.page_table);
	buffer_print(reply, "}");
}

static void operation_ram(const struct request *request, struct buffer *reply)
{
	struct memtype_ram ram = { 0 };

	if (request_number(request, "pages", (uint64_t *)&ram.pages, reply) &&
	    operation_call(MEMTYPE_ALLOCATE_RAM, &ram, request, reply))
		buffer_print(reply, "{\"start\": %llu}", ram.start);
}

static void operation_lookup(const struct request *request, struct buffer *reply)
{
	struct memtype_lookup lookup = { 0 };

	if (request_number(request, "start", (uint64_t *)&lookup.start, reply) &&
	    request_number(request, "pages", (uint64_t *)&lookup.pages, reply) &&
	    operation_call(MEMTYPE_LOOKUP, &lookup, request, reply))
		buffer_print(reply, "{\"errno\": %d, \"memtype\": %u, \"in_use\": %s}", lookup.error,
			     lookup.memtype, lookup.in_use ? "true" : "false");
}

static void operation_policy(const struct request *request, struct buffer *reply)
{
	struct memtype_policy policy = { 0 };
	uint64_t enforce, one_ioremap;

	if (!request_number_or(request, "enforce", 0, &enforce, reply) ||
	    !request_number_or(request, "one_ioremap", 0, &one_ioremap, reply))
		return;
	policy.enforce = enforce;
	policy.one_ioremap = one_ioremap;
	if (operation_call(MEMTYPE_SET_POLICY, &policy, request, reply))
		buffer_print(reply, "{}");
}

static void operation_reset(const struct request *request, struct buffer *reply)
{
	process_end_all();
	/* A guest of our own keeps what it was given. */
	if (!options_own_machine() && process_mtrr_restore())
		buffer_error(reply, "reset: an MTRR can't be taken back");
	else if (device_fd < 0)
		buffer_print(reply, "{}");
	else if (operation_call(MEMTYPE_RESET, NULL, request, reply))
		buffer_print(reply, "{}");
}

static void operation_statistics(const struct request *request, struct buffer *reply)
{
	struct memtype_statistics statistics = { 0 };

	if (operation_call(MEMTYPE_STATISTICS, &statistics, request, reply))
		buffer_print(reply, "{\"kept_pages\": %llu}", statistics.kept_pages);
}

static void operation_tracked(const struct request *request, struct buffer *reply)
{
	struct memtype_tracked tracked = { 0 };
	struct memtype_record *records = NULL;
	unsigned int n;

	if (!request_number_or(request, "start", 0, (uint64_t *)&tracked.start, reply) ||
	    !request_number_or(request, "pages", 0, (uint64_t *)&tracked.pages, reply))
		return;
	do {
		/* Asked again when there are more than were room for. */
		tracked.capacity = tracked.count;
		free(records);
		records = calloc(tracked.capacity + 1, sizeof(*records));
		tracked.buffer = (uintptr_t)records;
		if (!operation_call(MEMTYPE_TRACKED, &tracked, request, reply))
			goto free;
	} while (tracked.count > tracked.capacity);
	buffer_print(reply, "{\"records\": [");
	for (n = 0; n < tracked.count; n++) {
		if (n)
			buffer_print(reply, ", ");
		answer_record(reply, &records[n]);
	}
	buffer_print(reply, "]}");
free:
	free(records);
}

static void operation_memtype_list(const struct request *request, struct buffer *reply)
{
	system_memtype_list(reply);
}

static void operation_hello(const struct request *request, struct buffer *reply)
{
	system_describe(reply);
}

static void operation_log(const struct request *request, struct buffer *reply)
{
	/* The lines come with every reply. */
	buffer_print(reply, "{}");
}

/* All others are about the module, which a kernel may lack. */
static bool operation_works_without_module(const char *verb)
{
	static const char *const verbs[] = {
		"hello", "log", "refresh", "reset", "memtype_list", "mtrr_list", "shell",
		"process", "kill", "maps", "mailbox", "batch", "batch_rest", "put", "get",
		"kexec",
	};
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(verbs); n++)
		if (!strcmp(verb, verbs[n]))
			return true;
	return false;
}

/* The module refuses by itself what concerns memory; these change other things that aren't ours. */
static bool operation_is_allowed(const char *verb)
{
	static const char *const ours_only[] = { "refresh", "mailbox", "fuzz", "put", "get" };
	unsigned int n;

	if (options_own_machine() || init_is_us())
		return true;
	if (!strcmp(verb, "shell"))
		return options.shell;
	for (n = 0; n < ARRAY_SIZE(ours_only); n++)
		if (!strcmp(verb, ours_only[n]))
			return false;
	return true;
}

bool operation_run(const struct request *request, struct buffer *reply)
{
	static const struct {
		const char *verb;
		void (*run)(const struct request *request, struct buffer *reply);
	} verbs[] = {
		{ "hello", operation_hello },
		{ "log", operation_log },
		{ "refresh", system_refresh },
		{ "verify", operation_verify },
		{ "lookup", operation_lookup },
		{ "ioremap", operation_ioremap },
		{ "memremap", operation_memremap },
		{ "set_memory", operation_set_memory },
		{ "set_pages_array", operation_set_pages_array },
		{ "reserve_wc", operation_reserve_wc },
		{ "phys_wc_add", operation_phys_wc_add },
		{ "memremap_pages", operation_memremap_pages },
		{ "vmap", operation_vmap },
		{ "free_ram", operation_free_ram },
		{ "release", operation_release },
		{ "zap", operation_zap },
		{ "page_table", operation_page_table },
		{ "ram", operation_ram },
		{ "policy", operation_policy },
		{ "reset", operation_reset },
		{ "statistics", operation_statistics },
		{ "tracked", operation_tracked },
		{ "observation", observe_run_observation },
		{ "observed", observe_run_observed },
		{ "observe", observe_run_observe },
		{ "memtype_list", operation_memtype_list },
		{ "mtrr_list", process_mtrr_list },
		{ "registers", registers_run },
		{ "mm_list", mm_list_run },
		{ "shell", system_shell },
		{ "process", process_start },
		{ "kill", process_kill },
		{ "maps", process_maps },
		{ "mailbox", batch_mailbox },
		{ "batch", batch_run },
		{ "batch_rest", batch_rest },
		{ "put", transfer_put },
		{ "get", transfer_get },
		{ "kexec", kexec_load },
		{ "benchmark", benchmark_run },
		{ "fault", fault_run },
		{ "fault_calls", fault_run_calls },
		{ "fault_end", fault_run_end },
		{ "kernel_call", kernel_function_run_call },
		{ "kernel_pages", kernel_function_run_pages },
		{ "fuzz", fuzz_run },
	};
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(verbs); n++)
		if (!strcmp(request->verb, verbs[n].verb)) {
			if (!operation_is_allowed(request->verb))
				answer_not_allowed(reply);
			else if (device_fd < 0 && !operation_works_without_module(request->verb))
				answer_no_module(reply);
			else
				verbs[n].run(request, reply);
			return true;
		}
	return false;
}
