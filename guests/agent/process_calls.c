// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What a process does when told with what it has mapped. */
#include <errno.h>
/* MREMAP_DONTUNMAP: glibc has it from 2.32 on, Debian bullseye has 2.31. */
#include <linux/mman.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "process_mappings.h"

static sigjmp_buf fault;

static void process_call_munmap(const struct request *request, struct buffer *reply)
{
	struct mapping *mapping;
	uint64_t pages;
	char *address;

	mapping = process_mapping_find_part(request, &address, &pages, reply);
	if (!mapping)
		return;
	if (munmap(address, pages * PAGE_BYTES)) {
		buffer_print(reply, "{\"errno\": %d}", errno);
		return;
	}
	/* A part gone leaves the handle for the rest. */
	if (pages == mapping->pages)
		process_mapping_drop(mapping);
	buffer_print(reply, "{\"errno\": 0}");
}

/* Finds a place for mremap(), which needs one that is chosen. */
static void *process_call_find_place(uint64_t pages)
{
	void *place = mmap(process_mapping_fresh_address(), pages * PAGE_BYTES, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	/* From 6.17 on several VMAs can move at once. Between them nothing is to be left of this. */
	if (place != MAP_FAILED)
		munmap(place, pages * PAGE_BYTES);
	return place;
}

static void process_call_mremap(const struct request *request, struct buffer *reply)
{
	uint64_t pages, new_pages, move, keep, handle = 0;
	char *address, *moved, *place = NULL;
	struct mapping *mapping;
	int flags = 0;

	mapping = process_mapping_find_part(request, &address, &pages, reply);
	if (!mapping || !request_number_or(request, "new_pages", pages, &new_pages, reply) ||
	    !request_number_or(request, "move", 0, &move, reply) ||
	    !request_number_or(request, "dont_unmap", 0, &keep, reply))
		return;
	if (new_pages > SIZE_MAX / PAGE_BYTES) {
		buffer_error(reply, "mremap: new_pages=%llu is more than there is",
			     (unsigned long long)new_pages);
		return;
	}
	if (move && new_pages) {
		place = process_call_find_place(new_pages);
		if (place == MAP_FAILED) {
			buffer_print(reply, "{\"errno\": %d, \"handle\": null}", errno);
			return;
		}
		flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	}
	if (keep)
		flags |= MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
	moved = mremap(address, pages * PAGE_BYTES, new_pages * PAGE_BYTES, flags, place);
	if (moved == MAP_FAILED) {
		buffer_print(reply, "{\"errno\": %d, \"handle\": null}", errno);
		return;
	}
	/* What stays where it was keeps its handle, as after munmap() of a part. */
	if (moved == address && new_pages <= pages) {
		buffer_print(reply, "{\"errno\": 0, \"handle\": null}");
		return;
	}
	if (pages == mapping->pages && !keep)
		process_mapping_drop(mapping);
	handle = process_mapping_add(moved, new_pages);
	if (handle)
		buffer_print(reply, "{\"errno\": 0, \"handle\": %llu, \"address\": %llu}",
			     (unsigned long long)handle, (unsigned long long)(uintptr_t)moved);
	else
		buffer_error(reply, "mremap: the process has %d mappings already", MOST_MAPPINGS);
}

static void process_call_mprotect(const struct request *request, struct buffer *reply)
{
	uint64_t pages;
	char *address;

	if (!process_mapping_find_part(request, &address, &pages, reply))
		return;
	buffer_print(reply, "{\"errno\": %d}",
		     mprotect(address, pages * PAGE_BYTES, process_mapping_protection(request)) ?
			     errno :
			     0);
}

static void process_call_page_table(const struct request *request, struct buffer *reply)
{
	struct memtype_page_table table = { 0 };
	uint64_t pages;
	char *address;

	if (!process_mapping_find_part(request, &address, &pages, reply))
		return;
	process_mapping_page_table(address, pages, &table);
	buffer_print(reply, "{\"page_table\": ");
	answer_page_table(reply, &table);
	buffer_print(reply, "}");
}

static void process_call_on_fault(int signal)
{
	siglongjmp(fault, signal);
}

/* Reads or writes the first word of one page. */
static void process_call_access(const struct request *request, struct buffer *reply, bool write_it)
{
	volatile uint32_t *word;
	uint64_t pages, value;
	char *address;
	int signal_number;

	if (!process_mapping_find_part(request, &address, &pages, reply) ||
	    !request_number_or(request, "value", 0, &value, reply))
		return;
	word = (volatile uint32_t *)address;
	signal(SIGSEGV, process_call_on_fault);
	signal(SIGBUS, process_call_on_fault);
	signal_number = sigsetjmp(fault, 1);
	if (!signal_number) {
		if (write_it)
			*word = value;
		else
			value = *word;
	}
	/* Where it would jump to is gone with this function. */
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	if (signal_number)
		buffer_print(reply, "{\"signal\": %d}", signal_number);
	else
		buffer_print(reply, "{\"signal\": 0, \"value\": %llu}", (unsigned long long)value);
}

static void process_call_read(const struct request *request, struct buffer *reply)
{
	process_call_access(request, reply, false);
}

static void process_call_write(const struct request *request, struct buffer *reply)
{
	process_call_access(request, reply, true);
}

/* Asks to be killed in the middle of what it does next. */
static void process_call_kill_at(const struct request *request, struct buffer *reply)
{
	static const char *const kill_points[] = {
		[MEMTYPE_KILL_POINT_NEVER] = "never", [MEMTYPE_KILL_POINT_MMAP] = "mmap",
		[MEMTYPE_KILL_POINT_OPEN] = "open",	  [MEMTYPE_KILL_POINT_CLOSE] = "close",
		[MEMTYPE_KILL_POINT_FAULT] = "fault",
	};
	const char *wanted = request_text(request, "kill_point");
	struct memtype_kill when = { 0 };

	if (device_fd < 0) {
		answer_no_module(reply);
		return;
	}
	for (when.kill_point = 0; when.kill_point < ARRAY_SIZE(kill_points); when.kill_point++)
		if (wanted && !strcmp(wanted, kill_points[when.kill_point])) {
			if (ioctl(device_fd, MEMTYPE_KILL_AT, &when))
				buffer_error(reply, "kill_at: the module says %s", strerror(errno));
			else
				buffer_print(reply, "{}");
			return;
		}
	buffer_error(reply, "kill_at: kill_point=%s is not known", wanted ? wanted : "");
}

void process_call(const struct request *request, struct buffer *reply)
{
	static const struct {
		const char *verb;
		void (*run)(const struct request *request, struct buffer *reply);
	} verbs[] = {
		{ "mmap", process_map_run },
		{ "mmap_device", process_map_device_run },
		{ "munmap", process_call_munmap },
		{ "mremap", process_call_mremap },
		{ "mprotect", process_call_mprotect },
		{ "user_page_table", process_call_page_table },
		{ "read", process_call_read },
		{ "write", process_call_write },
		{ "mtrr_add", process_mtrr_add },
		{ "mtrr_delete", process_mtrr_delete },
		{ "ioctl", process_ioctl_run },
		{ "kill_at", process_call_kill_at },
	};
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(verbs); n++)
		if (!strcmp(request->verb, verbs[n].verb)) {
			verbs[n].run(request, reply);
			return;
		}
	buffer_error(reply, "%s: there is no such verb", request->verb);
}
