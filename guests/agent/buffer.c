// SPDX-License-Identifier: GPL-2.0 OR MIT
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"

static void buffer_reserve(struct buffer *buffer, size_t more)
{
	size_t capacity = buffer->capacity ? buffer->capacity : 256;

	while (capacity < buffer->length + more + 1)
		capacity *= 2;
	if (capacity == buffer->capacity)
		return;
	buffer->data = realloc(buffer->data, capacity);
	if (!buffer->data)
		abort();
	buffer->capacity = capacity;
}

void buffer_clear(struct buffer *buffer)
{
	buffer_reserve(buffer, 0);
	buffer->length = 0;
	buffer->data[0] = 0;
}

void buffer_free(struct buffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}

void buffer_bytes(struct buffer *buffer, const void *bytes, size_t length)
{
	buffer_reserve(buffer, length);
	memcpy(buffer->data + buffer->length, bytes, length);
	buffer->length += length;
	buffer->data[buffer->length] = 0;
}

static void buffer_vprint(struct buffer *buffer, const char *format, va_list arguments)
{
	va_list again;
	int length;

	va_copy(again, arguments);
	length = vsnprintf(NULL, 0, format, again);
	va_end(again);
	if (length < 0)
		abort();
	buffer_reserve(buffer, length);
	vsnprintf(buffer->data + buffer->length, length + 1, format, arguments);
	buffer->length += length;
}

void buffer_print(struct buffer *buffer, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	buffer_vprint(buffer, format, arguments);
	va_end(arguments);
}

void buffer_json(struct buffer *buffer, const char *text, size_t length)
{
	size_t n;

	buffer_bytes(buffer, "\"", 1);
	for (n = 0; n < length; n++) {
		unsigned char byte = text[n];

		if (byte == '"' || byte == '\\')
			buffer_print(buffer, "\\%c", byte);
		else if (byte < 0x20 || byte > 0x7e)
			buffer_print(buffer, "\\u%04x", byte);
		else
			buffer_bytes(buffer, &byte, 1);
	}
	buffer_bytes(buffer, "\"", 1);
}

void buffer_error(struct buffer *buffer, const char *format, ...)
{
	struct buffer text = { 0 };
	va_list arguments;

	va_start(arguments, format);
	buffer_vprint(&text, format, arguments);
	va_end(arguments);
	buffer_clear(buffer);
	buffer_print(buffer, "{\"error\": ");
	buffer_json(buffer, text.data, text.length);
	buffer_print(buffer, "}");
	buffer_free(&text);
}
