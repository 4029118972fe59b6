// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See file.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

#define LARGEST_OUTPUT (1 << 20)

static void file_read_all(int file, struct buffer *text)
{
	char part[4096];
	ssize_t got;

	buffer_clear(text);
	while ((got = read(file, part, sizeof(part))) > 0 || (got < 0 && errno == EINTR))
		if (got > 0 && text->length < LARGEST_OUTPUT)
			buffer_bytes(text, part, got);
}

int file_read(const char *path, struct buffer *text)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0)
		return -errno;
	file_read_all(file, text);
	close(file);
	return 0;
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
