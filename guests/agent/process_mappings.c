// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The mappings a process has, and where it puts them. */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "process_mappings.h"

/* fork() copies the table with everything else. */
static struct mapping mappings[MOST_MAPPINGS];

/* Far from where the kernel puts what nobody chose a place for. */
static char *next_address = (char *)(16ULL << 40);

uint64_t mappings_made;

int process_mapping_protection(const struct request *request)
{
	const char *text = request_text(request, "protection");
	int protection = PROT_NONE;

	if (!text)
		return PROT_READ | PROT_WRITE;
	if (strchr(text, 'r'))
		protection |= PROT_READ;
	if (strchr(text, 'w'))
		protection |= PROT_WRITE;
	if (strchr(text, 'x'))
		protection |= PROT_EXEC;
	return protection;
}

void *process_mapping_fresh_address(void)
{
	return next_address;
}

void *process_mapping_of_file(const struct request *request, struct memtype_request *asked, int file,
			      off_t offset, int flags)
{
	void *address = MAP_FAILED;

	if (file < 0)
		return MAP_FAILED;
	if (asked->pages > SIZE_MAX / PAGE_BYTES) {
		asked->kernel_error = EOVERFLOW;
	} else {
		address = mmap(next_address, asked->pages * PAGE_BYTES,
			       process_mapping_protection(request), flags, file, offset);
		if (address == MAP_FAILED)
			asked->kernel_error = errno;
	}
	close(file);
	return address;
}

uint64_t process_mapping_add(void *address, uint64_t pages)
{
	/* Never used again and no other process's, so that no handle can mean two mappings. */
	uint64_t handle = (uint64_t)getpid() << 32 | ++mappings_made;
	char *end = (char *)address + (pages + 1) * PAGE_BYTES;
	unsigned int n;

	for (n = 0; n < MOST_MAPPINGS; n++)
		if (!mappings[n].handle) {
			mappings[n] = (struct mapping){ handle, address, pages };
			if ((char *)address >= next_address)
				next_address = end;
			return handle;
		}
	return 0;
}

void process_mapping_drop(struct mapping *mapping)
{
	memset(mapping, 0, sizeof(*mapping));
}

static struct mapping *process_mapping_find(uint64_t handle)
{
	unsigned int n;

	for (n = 0; n < MOST_MAPPINGS; n++)
		if (handle && mappings[n].handle == handle)
			return &mappings[n];
	return NULL;
}

struct mapping *process_mapping_find_part(const struct request *request, char **address,
					  uint64_t *pages, struct buffer *reply)
{
	struct mapping *mapping;
	uint64_t handle, offset;

	if (!request_number(request, "handle", &handle, reply) ||
	    !request_number_or(request, "offset", 0, &offset, reply))
		return NULL;
	mapping = process_mapping_find(handle);
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

void process_mapping_page_table(const void *address, uint64_t pages,
				struct memtype_page_table *table)
{
	struct memtype_address range = { .address = (uintptr_t)address, .pages = pages };

	if (device_fd < 0)
		kcore_page_table(address, pages, table);
	else if (!ioctl(device_fd, MEMTYPE_READ_PAGE_TABLE, &range))
		*table = range.page_table;
}
