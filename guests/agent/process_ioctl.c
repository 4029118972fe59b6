// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Any ioctl of any file, as a program of 64 or of 32 bits makes it. The file stays open until the
 * process ends or asks for another: /proc/mtrr counts what each open file has asked for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"
#include "allowed.h"

#define MOST_BYTES 256
/* ioctl in arch/x86/entry/syscalls/syscall_32.tbl. */
#define IOCTL_32 54

static int process_ioctl_open(const char *path)
{
	static char open_path[256];
	static int file = -1;

	if (file >= 0 && !strcmp(path, open_path))
		return file;
	if (file >= 0)
		close(file);
	file = open(path, O_RDWR | O_CLOEXEC);
	if (file < 0)
		file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return -errno;
	strcpy(open_path, path);
	return file;
}

/* A program of 64 bits may use the gate of one of 32, and is one for the call. */
static int process_ioctl_32(int file, unsigned int command, void *argument)
{
	long result = IOCTL_32;

	asm volatile("int $0x80" : "+a" (result)
		     : "b" ((long)file), "c" ((long)command), "d" (argument)
		     : "memory", "r8", "r9", "r10", "r11");
	return (int)result;
}

static bool process_ioctl_bytes(const char *text, unsigned char *bytes, size_t *length)
{
	static const char digits[] = "0123456789abcdef";
	const char *high, *low;

	for (*length = 0; *text; text += 2) {
		high = strchr(digits, text[0]);
		low = text[1] ? strchr(digits, text[1]) : NULL;
		if (!high || !low || *length == MOST_BYTES)
			return false;
		bytes[(*length)++] = (high - digits) << 4 | (low - digits);
	}
	return true;
}

void process_ioctl_run(const struct request *request, struct buffer *reply)
{
	const char *path = request_text(request, "path"), *text = request_text(request, "data");
	uint64_t command, of_32_bits, no_memory;
	unsigned char *bytes;
	size_t length = 0, n;
	int file, error;

	if (!request_number(request, "command", &command, reply) ||
	    !request_number(request, "of_32_bits", &of_32_bits, reply) ||
	    !request_number(request, "no_memory", &no_memory, reply))
		return;
	/* What a device does when told nobody knows: only where everything is allowed. */
	if (!allowed_memory(0, 1ULL << 40, reply))
		return;
	/* Below 4 GiB, for 32 bits. */
	bytes = mmap(NULL, MOST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT,
		     -1, 0);
	if (bytes == MAP_FAILED) {
		buffer_error(reply, "ioctl: no memory");
		return;
	}
	if (!path || strlen(path) > 255 || !text || !process_ioctl_bytes(text, bytes, &length)) {
		buffer_error(reply, "ioctl: path= or data= is missing or too long");
		goto unmap;
	}
	file = process_ioctl_open(path);
	if (no_memory)
		munmap(bytes, MOST_BYTES);
	if (file < 0)
		error = file;
	else if (of_32_bits)
		error = process_ioctl_32(file, command, bytes);
	else
		error = ioctl(file, command, bytes) < 0 ? -errno : 0;
	buffer_print(reply, "{\"errno\": %d, \"data\": \"", error < 0 ? -error : 0);
	for (n = 0; !no_memory && n < length; n++)
		buffer_print(reply, "%02x", bytes[n]);
	buffer_print(reply, "\"}");
	if (no_memory)
		return;
unmap:
	munmap(bytes, MOST_BYTES);
}
