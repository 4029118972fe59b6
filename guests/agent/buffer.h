/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* A string that grows, and JSON written into it. Running out of memory ends the agent. */
#ifndef BUFFER_H
#define BUFFER_H

#include <stddef.h>

struct buffer {
	char *data;
	size_t length;
	size_t capacity;
};

void buffer_clear(struct buffer *buffer);
void buffer_free(struct buffer *buffer);
void buffer_bytes(struct buffer *buffer, const void *bytes, size_t length);
void buffer_print(struct buffer *buffer, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A JSON string: pure ASCII, every byte outside it as \u00xx. */
void buffer_json(struct buffer *buffer, const char *text, size_t length);
/* {"error": "..."} */
void buffer_error(struct buffer *buffer, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
