/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Files of the kernel's, read and written at once. */
#ifndef FILE_H
#define FILE_H

#include "buffer.h"

/* All of a file, or nothing: -EFBIG where that is more than the host takes. */
int file_read(const char *path, struct buffer *text);
/* At once. */
int file_write(const char *path, const char *text);

#endif
