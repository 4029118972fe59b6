// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Files into the guest and out of it. A part of one lies in the mailbox, see batch.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "protocol.h"

/* The folders above a file, as mkdir -p makes them. */
static void transfer_make_folders(const char *path)
{
	char *copy = strdup(path), *slash;

	if (!copy)
		abort();
	for (slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		/* What is wrong with one, open() says. */
		mkdir(copy, 0755);
		*slash = '/';
	}
	free(copy);
}

static int transfer_write(int file, const char *memory, size_t length, off_t offset)
{
	while (length) {
		ssize_t written = pwrite(file, memory, length, offset);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return written ? -errno : -EIO;
		memory += written;
		offset += written;
		length -= written;
	}
	return 0;
}

static ssize_t transfer_read(int file, char *memory, size_t length, off_t offset)
{
	size_t done = 0;

	while (done < length) {
		ssize_t got = pread(file, memory + done, length - done, offset + done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		done += got;
	}
	return done;
}

/* Opens a regular file. Another kind may make open() or read() wait. */
static int transfer_open(const char *path, int flags)
{
	int file = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
	struct stat status;
	int error = 0;

	if (file < 0)
		return -errno;
	if (fstat(file, &status))
		error = -errno;
	else if (!S_ISREG(status.st_mode))
		error = S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
	if (!error)
		return file;
	close(file);
	return error;
}

static const char *transfer_path(const struct request *request, struct buffer *reply)
{
	const char *path = request_text(request, "path");

	if (path && *path == '/')
		return path;
	buffer_error(reply, "%s: path= has to begin with /", request->verb);
	return NULL;
}

void transfer_put(const struct request *request, struct buffer *reply)
{
	const char *path = transfer_path(request, reply);
	uint64_t offset, length, crc;
	size_t size;
	char *memory;
	int file, error = batch_memory(&memory, &size);

	if (!path || !request_number(request, "offset", &offset, reply) ||
	    !request_number(request, "length", &length, reply) ||
	    !request_number(request, "crc", &crc, reply))
		return;
	if (error || length > size || protocol_crc(memory, length) != crc) {
		buffer_error(reply, "put: the mailbox does not hold the %llu bytes it is said to hold",
			     (unsigned long long)length);
		return;
	}
	transfer_make_folders(path);
	file = transfer_open(path, O_WRONLY | O_CREAT | (offset ? 0 : O_TRUNC));
	error = file < 0 ? file : transfer_write(file, memory, length, offset);
	if (file >= 0 && close(file) && !error)
		error = -errno;
	if (error)
		buffer_error(reply, "put: %s: %s", path, strerror(-error));
	else
		buffer_print(reply, "{}");
}

void transfer_get(const struct request *request, struct buffer *reply)
{
	const char *path = transfer_path(request, reply);
	uint64_t offset;
	size_t size;
	char *memory;
	ssize_t length;
	int file, error = batch_memory(&memory, &size);

	if (!path || !request_number(request, "offset", &offset, reply))
		return;
	file = error ?: transfer_open(path, O_RDONLY);
	length = file < 0 ? file : transfer_read(file, memory, size, offset);
	if (file >= 0)
		close(file);
	if (length < 0)
		buffer_error(reply, "get: %s: %s", path, strerror(-length));
	else
		buffer_print(reply, "{\"length\": %zd, \"crc\": %u}", length,
			     protocol_crc(memory, length));
}
