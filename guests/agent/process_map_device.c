// SPDX-License-Identifier: GPL-2.0 OR MIT
/* How a process maps what any device node gives: the page tables say afterwards what it was. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "allowed.h"
#include "process_mappings.h"

/* Returns the file, or -1 with the error in kernel_error, or in the reply. */
static int process_map_device_open(const char *path, struct memtype_request *asked,
				   struct buffer *reply)
{
	struct stat status;
	int file;

	if (stat(path, &status)) {
		asked->kernel_error = errno;
		return -1;
	}
	/* Opening something else may wait for ever. */
	if (!S_ISCHR(status.st_mode)) {
		buffer_error(reply, "mmap: %s is no character device", path);
		return -1;
	}
	file = open(path, O_RDWR | O_CLOEXEC);
	if (file < 0 && (errno == EACCES || errno == EPERM || errno == EROFS))
		file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		asked->kernel_error = errno;
	return file;
}

/* Counts what is mapped if it is one piece of memory with one type, and the verifier accepts that. */
static int process_map_device_adopt(void *address, const struct memtype_request *asked,
				    struct memtype_address *range)
{
	struct memtype_request judged = { .pages = asked->pages, .kind = MEMTYPE_USER };

	range->address = (uintptr_t)address;
	range->pages = asked->pages;
	memcpy(range->owner, asked->owner, sizeof(range->owner));
	if (ioctl(device_fd, MEMTYPE_MAPPED, range)) {
		range->pages = 0;
		return errno == ENODATA || errno == EXDEV ? 0 : -errno;
	}
	judged.start = range->start;
	judged.memtype = range->memtype;
	if (ioctl(device_fd, MEMTYPE_VERIFY, &judged))
		return -errno;
	if (judged.verdict.error || !ioctl(device_fd, MEMTYPE_ADOPT, range))
		return 0;
	/* Memory with struct pages, whose VMA may grow and merge. */
	return errno == EFAULT ? 0 : -errno;
}

/* False where the mapping isn't asked for. */
static bool process_map_device_judge(const struct request *request, struct memtype_request *asked,
				     struct buffer *reply)
{
	asked->kind = MEMTYPE_USER;
	asked->asked_kernel = 1;
	if (!request_text(request, "start"))
		return true;
	if (ioctl(device_fd, MEMTYPE_VERIFY, asked)) {
		buffer_error(reply, "mmap: the module says %s", strerror(errno));
		return false;
	}
	return asked->asked_kernel;
}

static void *process_map_device_map(const struct request *request, struct memtype_request *asked,
				    uint64_t offset, int flags, struct buffer *reply)
{
	int file = process_map_device_open(request_text(request, "path"), asked, reply);

	return process_mapping_of_file(request, asked, file, offset, flags);
}

static bool process_map_device_fill(const struct request *request, struct memtype_request *asked,
				    uint64_t *offset, uint64_t *private, struct buffer *reply)
{
	uint64_t memtype;

	memset(asked, 0, sizeof(*asked));
	if (!request_number(request, "pages", (uint64_t *)&asked->pages, reply) ||
	    !request_number_or(request, "start", 0, (uint64_t *)&asked->start, reply) ||
	    !request_number_or(request, "memtype", MEMTYPE_WB, &memtype, reply) ||
	    !request_number_or(request, "offset", 0, offset, reply) ||
	    !request_number_or(request, "private", 0, private, reply))
		return false;
	asked->memtype = memtype;
	strncpy(asked->owner, request_text(request, "process"), sizeof(asked->owner) - 1);
	if (request_text(request, "path"))
		return true;
	buffer_error(reply, "mmap: path= is missing");
	return false;
}

void process_map_device_run(const struct request *request, struct buffer *reply)
{
	struct memtype_address range = { 0 };
	struct memtype_request asked;
	uint64_t offset, private;
	void *address = MAP_FAILED;
	int error;

	if (device_fd < 0) {
		answer_no_module(reply);
		return;
	}
	/* What a driver maps is known only afterwards: only where everything is allowed. */
	if (!allowed_memory(0, 1ULL << 40, reply))
		return;
	if (!process_map_device_fill(request, &asked, &offset, &private, reply))
		return;
	if (process_map_device_judge(request, &asked, reply))
		address = process_map_device_map(request, &asked, offset,
						 private ? MAP_PRIVATE : MAP_SHARED, reply);
	if (reply->length)
		return;
	if (address != MAP_FAILED) {
		error = process_map_device_adopt(address, &asked, &range);
		asked.handle = error ? 0 : process_mapping_add(address, asked.pages);
		if (!asked.handle) {
			munmap(address, asked.pages * PAGE_BYTES);
			buffer_error(reply, "mmap: %s", error ? strerror(-error) : "too many mappings");
			return;
		}
		asked.address = (uintptr_t)address;
		process_mapping_page_table(address, asked.pages, &asked.page_table);
	}
	buffer_print(reply, "{\"mapped\": ");
	if (range.pages)
		buffer_print(reply, "%llu", (unsigned long long)range.start);
	else
		buffer_print(reply, "null");
	buffer_print(reply, ", \"outcome\": ");
	answer_outcome(reply, &asked);
	buffer_print(reply, "}");
}
