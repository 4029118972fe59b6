// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See file.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

/* The host takes lines of 16 MiB. Text of these files is hardly longer in JSON. */
#define LARGEST_FILE (8 << 20)

static int file_read_all(int file, struct buffer *text)
{
	char part[4096];
	ssize_t got;

	buffer_clear(text);
	while ((got = read(file, part, sizeof(part))) > 0 || (got < 0 && errno == EINTR)) {
		if (got < 0)
			continue;
		if (text->length + got > LARGEST_FILE)
			return -EFBIG;
		buffer_bytes(text, part, got);
	}
	return got < 0 ? -errno : 0;
}

int file_read(const char *path, struct buffer *text)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	int error;

	if (file < 0)
		return -errno;
	error = file_read_all(file, text);
	close(file);
	if (error)
		buffer_free(text);
	return error;
}

int file_write(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t written;
	int error = 0;

	if (file < 0)
		return -errno;
	written = write(file, text, strlen(text));
	if (written != (ssize_t)strlen(text))
		error = written < 0 ? -errno : -EIO;
	close(file);
	return error;
}
