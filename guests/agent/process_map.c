// SPDX-License-Identifier: GPL-2.0 OR MIT
/* How a process maps device memory: through the module, sysfs or /dev/mem. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "allowed.h"
#include "process_mappings.h"

#define LARGE_BYTES (2UL << 20)
#define LARGER_BYTES (1UL << 30)

/*
 * Opens what the mapping goes through. Returns the file, or -1: with the error
 * in the reply when the request makes no sense, else in kernel_error.
 */
static int process_map_open_source(const struct request *request, struct memtype_request *asked,
				   off_t *offset, struct buffer *reply)
{
	const char *via = request_text(request, "via");
	bool combining = asked->memtype == MEMTYPE_WC;
	struct test_device device;
	char path[128];
	int file;

	if (via && !strcmp(via, "sysfs")) {
		if (!combining && asked->memtype != MEMTYPE_UC_MINUS) {
			buffer_error(reply, "mmap: sysfs knows write-combining and uncached-minus only");
			return -1;
		}
		device = test_device;
		if ((asked->start < device.start || asked->start - device.start >= device.size) &&
		    !test_device_holding(asked->start, &device)) {
			buffer_error(reply, "mmap: %#llx is in no PCI device's BAR", asked->start);
			return -1;
		}
		/* The kernel makes resourceN_wc of prefetchable BARs alone (pci_create_resource_files()). */
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource%u%s",
			 device.address, device.bar, combining ? "_wc" : "");
		*offset = asked->start - device.start;
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

/* How the module maps; MEMTYPE_METHODS where it isn't the module that does. */
static uint32_t process_map_method(const char *via)
{
	static const char *const methods[] = {
		[MEMTYPE_METHOD_REMAP] = "driver",
		[MEMTYPE_METHOD_INSERT] = "insert_pfn",
		[MEMTYPE_METHOD_COMBINE] = "noncached_writecombine",
		[MEMTYPE_METHOD_INSERT_PMD] = "insert_pfn_pmd",
		[MEMTYPE_METHOD_INSERT_PUD] = "insert_pfn_pud",
		[MEMTYPE_METHOD_INSERT_PAGE] = "insert_page",
		[MEMTYPE_METHOD_INSERT_PAGES] = "insert_pages",
		[MEMTYPE_METHOD_REMAP_VMALLOC] = "remap_vmalloc",
		[MEMTYPE_METHOD_IOMAP] = "iomap_memory",
		[MEMTYPE_METHOD_INSERT_MIXED] = "insert_mixed",
		[MEMTYPE_METHOD_DMA_COHERENT] = "dma_coherent",
		[MEMTYPE_METHOD_DMA_WC] = "dma_wc",
	};
	uint32_t method;

	if (!via)
		return MEMTYPE_METHOD_REMAP;
	for (method = 0; method < ARRAY_SIZE(methods) && strcmp(via, methods[method]); method++)
		;
	return method;
}

/* "START+PAGES,START+PAGES": pieces of memory that lie one behind the other in the mapping. */
static bool process_map_fill_pieces(const struct request *request, struct memtype_prepare *next,
				    struct buffer *reply)
{
	const char *text = request_text(request, "pieces");
	char *rest;

	while (text && *text) {
		struct memtype_range *piece = &next->pieces[next->piece_count];

		if (next->piece_count++ == MEMTYPE_MOST_PIECES)
			break;
		piece->start = strtoull(text, &rest, 0);
		piece->pages = *rest == '+' ? strtoull(rest + 1, &rest, 0) : 0;
		if (*rest && *rest != ',')
			break;
		text = *rest ? rest + 1 : rest;
	}
	if (!text || !*text)
		return true;
	buffer_error(reply, "mmap: pieces=%.60s are not up to %d of START+PAGES",
		     request_text(request, "pieces"), MEMTYPE_MOST_PIECES);
	return false;
}

/* Which pages the module maps, and how. False with the error in the reply. */
static bool process_map_fill_method(const struct request *request, struct memtype_prepare *next,
				    struct buffer *reply)
{
	uint64_t pages = next->request.pages, first, count;

	next->map_method = process_map_method(request_text(request, "via"));
	if (!request_number_or(request, "part_first", 0, &first, reply) ||
	    !request_number_or(request, "part_pages", first < pages ? pages - first : 0, &count,
			       reply))
		return false;
	if (first > pages || count > pages - first || (!count && pages)) {
		buffer_error(reply, "mmap: part_first=%llu part_pages=%llu is no part of %llu pages",
			     (unsigned long long)first, (unsigned long long)count,
			     (unsigned long long)pages);
		return false;
	}
	next->part_first = first;
	next->part_pages = count;
	return process_map_fill_pieces(request, next, reply);
}

/* Through the module, which judges and tracks by itself. */
static void *process_map_driver(const struct request *request, struct memtype_request *asked,
				int flags, struct buffer *reply)
{
	struct memtype_prepare next = { .request = *asked };
	char *place = process_mapping_fresh_address();
	void *address;
	int error;

	if (device_fd < 0) {
		answer_no_module(reply);
		return MAP_FAILED;
	}
	if (!process_map_fill_method(request, &next, reply))
		return MAP_FAILED;
	/* A large page needs an address that is a multiple of it. */
	if (next.map_method == MEMTYPE_METHOD_INSERT_PMD)
		place += -(uintptr_t)place % LARGE_BYTES;
	else if (next.map_method == MEMTYPE_METHOD_INSERT_PUD)
		place += -(uintptr_t)place % LARGER_BYTES;
	if (ioctl(device_fd, MEMTYPE_PREPARE, &next)) {
		answer_refusal(request, -errno, reply);
		return MAP_FAILED;
	}
	/* A length that wraps must not become a small one. */
	errno = EOVERFLOW;
	address = asked->pages > SIZE_MAX / PAGE_BYTES ?
			  MAP_FAILED :
			  mmap(place, asked->pages * PAGE_BYTES,
			       process_mapping_protection(request), flags, device_fd, asked->start);
	error = errno;
	ioctl(device_fd, MEMTYPE_RESULT, asked);
	if (address == MAP_FAILED && !asked->kernel_error) {
		/* The kernel refused it before the module was asked: ask it now. */
		asked->kind = MEMTYPE_USER;
		ioctl(device_fd, MEMTYPE_VERIFY, asked);
		asked->kernel_error = asked->asked_kernel ? error : 0;
	}
	return address;
}

/* Through somebody else's file: judged before, tracked from then on when accepted. */
static void *process_map_other(const struct request *request, struct memtype_request *asked,
			       int flags, struct buffer *reply)
{
	struct memtype_address range = {
		.start = asked->start,
		.pages = asked->pages,
		.memtype = asked->memtype,
	};
	void *address;
	off_t offset = 0;
	int file;

	/* The module isn't asked when these map: here it is. */
	if (!allowed_memory(asked->start, asked->pages, reply))
		return MAP_FAILED;
	asked->kind = MEMTYPE_USER;
	if (device_fd < 0) {
		/* Nobody judges. */
		asked->asked_kernel = 1;
	} else if (ioctl(device_fd, MEMTYPE_VERIFY, asked)) {
		buffer_error(reply, "mmap: the module says %s", strerror(errno));
		return MAP_FAILED;
	}
	if (!asked->asked_kernel)
		return MAP_FAILED;
	file = process_map_open_source(request, asked, &offset, reply);
	address = process_mapping_of_file(request, asked, file, offset, flags);
	if (address == MAP_FAILED || asked->verdict.error || device_fd < 0)
		return address;
	range.address = (uintptr_t)address;
	memcpy(range.owner, asked->owner, sizeof(range.owner));
	if (ioctl(device_fd, MEMTYPE_ADOPT, &range)) {
		buffer_error(reply, "mmap: the module can't track the mapping: %s", strerror(errno));
		munmap(address, asked->pages * PAGE_BYTES);
		return MAP_FAILED;
	}
	return address;
}

void process_map_run(const struct request *request, struct buffer *reply)
{
	const char *name = request_text(request, "process");
	struct memtype_request asked;
	uint64_t private;
	void *address;
	int flags;

	if (!request_fill(request, &asked, reply) ||
	    !request_number_or(request, "private", 0, &private, reply))
		return;
	flags = private ? MAP_PRIVATE : MAP_SHARED;
	strncpy(asked.owner, name, sizeof(asked.owner) - 1);
	if (process_map_method(request_text(request, "via")) < MEMTYPE_METHODS)
		address = process_map_driver(request, &asked, flags, reply);
	else
		address = process_map_other(request, &asked, flags, reply);
	if (reply->length)
		return;
	if (address != MAP_FAILED) {
		asked.handle = process_mapping_add(address, asked.pages);
		if (!asked.handle) {
			munmap(address, asked.pages * PAGE_BYTES);
			buffer_error(reply, "mmap: the process has %d mappings already",
				     MOST_MAPPINGS);
			return;
		}
		asked.address = (uintptr_t)address;
		process_mapping_page_table(address, asked.pages, &asked.page_table);
	}
	answer_outcome(reply, &asked);
}
