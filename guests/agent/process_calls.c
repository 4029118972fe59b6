// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What a process does when told: map device memory in every way there is, and let go. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

#define MOST_MAPPINGS 1024

/* fork() copies the table with everything else. */
static struct mapping {
	uint64_t handle;
	char *address;
	uint64_t pages;
} mappings[MOST_MAPPINGS];

/* Handles are never used again, so that an old one can't mean a new mapping. */
static uint64_t last_handle;

static sigjmp_buf fault;

static int protection_of(const struct request *request)
{
	const char *text = request_text(request, "protection");
	int protection = PROT_NONE;

	if (!text)
		return PROT_READ | PROT_WRITE;
	if (strchr(text, 'r'))
		protection |= PROT_READ;
	if (strchr(text, 'w'))
		protection |= PROT_WRITE;
	return protection;
}

static uint64_t add_mapping(void *address, uint64_t pages)
{
	unsigned int n;

	for (n = 0; n < MOST_MAPPINGS; n++)
		if (!mappings[n].handle) {
			mappings[n] = (struct mapping){ ++last_handle, address, pages };
			return last_handle;
		}
	return 0;
}

static struct mapping *find_mapping(uint64_t handle)
{
	unsigned int n;

	for (n = 0; n < MOST_MAPPINGS; n++)
		if (handle && mappings[n].handle == handle)
			return &mappings[n];
	return NULL;
}

/* A part of a mapping: [offset, offset + pages), all of it when neither is given. */
static struct mapping *find_part(const struct request *request, char **address, uint64_t *pages,
				 struct buffer *reply)
{
	struct mapping *mapping;
	uint64_t handle, offset;

	if (!request_number(request, "handle", &handle, reply) ||
	    !request_number_or(request, "offset", 0, &offset, reply))
		return NULL;
	mapping = find_mapping(handle);
	if (!mapping) {
		buffer_error(reply, "%s: the process has no mapping %llu", request->verb,
			     (unsigned long long)handle);
		return NULL;
	}
	if (offset >= mapping->pages) {
		buffer_error(reply, "%s: offset=%llu lies beyond the mapping's %llu pages",
			     request->verb, (unsigned long long)offset,
			     (unsigned long long)mapping->pages);
		return NULL;
	}
	if (!request_number_or(request, "pages", mapping->pages - offset, pages, reply))
		return NULL;
	if (!*pages || *pages > mapping->pages - offset) {
		buffer_error(reply, "%s: pages=%llu don't fit into the mapping", request->verb,
			     (unsigned long long)*pages);
		return NULL;
	}
	*address = mapping->address + offset * PAGE_BYTES;
	return mapping;
}

static void read_page_table(const void *address, uint64_t pages, struct memtype_page_table *table)
{
	struct memtype_address range = { .address = (uintptr_t)address, .pages = pages };

	if (!ioctl(device, MEMTYPE_READ_PAGE_TABLE, &range))
		*table = range.page_table;
}

/*
 * Opens what the mapping goes through. Returns the file, or -1: with the error
 * in the reply when the request makes no sense, else with the kernel's errno.
 */
static int open_source(const struct request *request, struct memtype_request *asked, off_t *offset,
		       struct buffer *reply)
{
	const char *via = request_text(request, "via");
	bool combining = asked->memtype == MEMTYPE_WC;
	char path[128];
	int file;

	if (via && !strcmp(via, "sysfs")) {
		if (!combining && asked->memtype != MEMTYPE_UC_MINUS) {
			buffer_error(reply, "mmap: sysfs knows write-combining and uncached-minus only");
			return -1;
		}
		if (asked->start < test_device.start ||
		    asked->start - test_device.start >= test_device.size) {
			buffer_error(reply, "mmap: %#llx is not in the test device's BAR", asked->start);
			return -1;
		}
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource%u%s",
			 test_device.address, test_device.bar, combining ? "_wc" : "");
		*offset = asked->start - test_device.start;
		file = open(path, O_RDWR | O_CLOEXEC);
	} else if (via && !strcmp(via, "devmem")) {
		if (asked->memtype != MEMTYPE_WB && asked->memtype != MEMTYPE_UC_MINUS) {
			buffer_error(reply, "mmap: /dev/mem knows write-back and (with O_SYNC) uncached-minus only");
			return -1;
		}
		snprintf(path, sizeof(path), "/dev/mem");
		*offset = asked->start;
		file = open(path, O_RDWR | O_CLOEXEC |
				  (asked->memtype == MEMTYPE_UC_MINUS ? O_SYNC : 0));
	} else {
		buffer_error(reply, "mmap: via=%s is not known", via ? via : "");
		return -1;
	}
	if (file < 0)
		asked->kernel_error = errno;
	return file;
}

/* Through the module, which judges and tracks by itself. */
static void *map_driver(const struct request *request, struct memtype_request *asked, int flags)
{
	void *address;
	int error;

	if (ioctl(device, MEMTYPE_PREPARE, asked))
		return MAP_FAILED;
	/* A length that wraps must not become a small one. */
	errno = EOVERFLOW;
	address = asked->pages > SIZE_MAX / PAGE_BYTES ?
			  MAP_FAILED :
			  mmap(NULL, asked->pages * PAGE_BYTES, protection_of(request), flags, device,
			       asked->start);
	error = errno;
	ioctl(device, MEMTYPE_RESULT, asked);
	if (address == MAP_FAILED && !asked->kernel_error) {
		/* The kernel refused it before the module was asked: ask it now. */
		asked->kind = MEMTYPE_USER;
		ioctl(device, MEMTYPE_VERIFY, asked);
		asked->kernel_error = asked->asked_kernel ? error : 0;
	}
	return address;
}

/* Through somebody else's file: judged before, tracked from then on when accepted. */
static void *map_other(const struct request *request, struct memtype_request *asked, int flags,
		       struct buffer *reply)
{
	struct memtype_address range = { .pages = asked->pages, .memtype = asked->memtype };
	void *address;
	off_t offset;
	int file;

	asked->kind = MEMTYPE_USER;
	if (ioctl(device, MEMTYPE_VERIFY, asked)) {
		buffer_error(reply, "mmap: the module says %s", strerror(errno));
		return MAP_FAILED;
	}
	if (!asked->asked_kernel)
		return MAP_FAILED;
	if (asked->pages > SIZE_MAX / PAGE_BYTES) {
		asked->kernel_error = EOVERFLOW;
		return MAP_FAILED;
	}
	file = open_source(request, asked, &offset, reply);
	if (file < 0)
		return MAP_FAILED;
	address = mmap(NULL, asked->pages * PAGE_BYTES, protection_of(request), flags, file, offset);
	if (address == MAP_FAILED)
		asked->kernel_error = errno;
	close(file);
	if (address == MAP_FAILED || asked->verdict.error)
		return address;
	range.address = (uintptr_t)address;
	memcpy(range.owner, asked->owner, sizeof(range.owner));
	if (ioctl(device, MEMTYPE_ADOPT, &range)) {
		buffer_error(reply, "mmap: the module can't track the mapping: %s", strerror(errno));
		munmap(address, asked->pages * PAGE_BYTES);
		return MAP_FAILED;
	}
	return address;
}

static void run_mmap(const struct request *request, struct buffer *reply)
{
	const char *via = request_text(request, "via"), *name = request_text(request, "process");
	struct memtype_request asked;
	uint64_t private;
	void *address;
	int flags;

	if (!request_fill(request, &asked, reply) ||
	    !request_number_or(request, "private", 0, &private, reply))
		return;
	flags = private ? MAP_PRIVATE : MAP_SHARED;
	strncpy(asked.owner, name, sizeof(asked.owner) - 1);
	if (!via || !strcmp(via, "driver"))
		address = map_driver(request, &asked, flags);
	else
		address = map_other(request, &asked, flags, reply);
	if (reply->length)
		return;
	if (address != MAP_FAILED) {
		asked.handle = add_mapping(address, asked.pages);
		if (!asked.handle) {
			munmap(address, asked.pages * PAGE_BYTES);
			buffer_error(reply, "mmap: the process has %d mappings already",
				     MOST_MAPPINGS);
			return;
		}
		asked.address = (uintptr_t)address;
		read_page_table(address, asked.pages, &asked.page_table);
	}
	write_outcome(reply, &asked);
}

static void run_munmap(const struct request *request, struct buffer *reply)
{
	struct mapping *mapping;
	uint64_t pages;
	char *address;

	mapping = find_part(request, &address, &pages, reply);
	if (!mapping)
		return;
	if (munmap(address, pages * PAGE_BYTES)) {
		buffer_print(reply, "{\"errno\": %d}", errno);
		return;
	}
	/* A part gone leaves the handle for the rest. */
	if (pages == mapping->pages)
		memset(mapping, 0, sizeof(*mapping));
	buffer_print(reply, "{\"errno\": 0}");
}

static void run_mprotect(const struct request *request, struct buffer *reply)
{
	uint64_t pages;
	char *address;

	if (!find_part(request, &address, &pages, reply))
		return;
	buffer_print(reply, "{\"errno\": %d}",
		     mprotect(address, pages * PAGE_BYTES, protection_of(request)) ? errno : 0);
}

static void run_page_table(const struct request *request, struct buffer *reply)
{
	struct memtype_page_table table = { 0 };
	uint64_t pages;
	char *address;

	if (!find_part(request, &address, &pages, reply))
		return;
	read_page_table(address, pages, &table);
	buffer_print(reply, "{\"page_table\": ");
	write_page_table(reply, &table);
	buffer_print(reply, "}");
}

static void on_fault(int signal)
{
	siglongjmp(fault, signal);
}

/* Reads or writes the first word of one page. */
static void run_access(const struct request *request, struct buffer *reply, bool write_it)
{
	volatile uint32_t *word;
	uint64_t pages, value;
	char *address;
	int signal_number;

	if (!find_part(request, &address, &pages, reply) ||
	    !request_number_or(request, "value", 0, &value, reply))
		return;
	word = (volatile uint32_t *)address;
	signal(SIGSEGV, on_fault);
	signal(SIGBUS, on_fault);
	signal_number = sigsetjmp(fault, 1);
	if (signal_number) {
		buffer_print(reply, "{\"signal\": %d}", signal_number);
		return;
	}
	if (write_it)
		*word = value;
	else
		value = *word;
	buffer_print(reply, "{\"signal\": 0, \"value\": %llu}", (unsigned long long)value);
}

static void run_read(const struct request *request, struct buffer *reply)
{
	run_access(request, reply, false);
}

static void run_write(const struct request *request, struct buffer *reply)
{
	run_access(request, reply, true);
}

void process_call(const struct request *request, struct buffer *reply)
{
	static const struct {
		const char *verb;
		void (*run)(const struct request *request, struct buffer *reply);
	} verbs[] = {
		{ "mmap", run_mmap },
		{ "munmap", run_munmap },
		{ "mprotect", run_mprotect },
		{ "user_page_table", run_page_table },
		{ "read", run_read },
		{ "write", run_write },
		{ "mtrr_add", process_mtrr_add },
		{ "mtrr_delete", process_mtrr_delete },
		{ "fork", process_fork },
	};
	unsigned int n;

	for (n = 0; n < sizeof(verbs) / sizeof(verbs[0]); n++)
		if (!strcmp(request->verb, verbs[n].verb)) {
			verbs[n].run(request, reply);
			return;
		}
	buffer_error(reply, "%s: there is no such verb", request->verb);
}
