// SPDX-License-Identifier: GPL-2.0 OR MIT
/* A request, and what is in it. See request.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "request.h"

static int request_hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

static bool request_percent_decode(char *text)
{
	char *to = text;

	for (; *text; text++) {
		if (*text != '%') {
			*to++ = *text;
			continue;
		}
		if (request_hex_digit(text[1]) < 0 || request_hex_digit(text[2]) < 0)
			return false;
		*to++ = request_hex_digit(text[1]) << 4 | request_hex_digit(text[2]);
		text += 2;
	}
	*to = 0;
	return true;
}

bool request_parse(struct request *request, char *text)
{
	char *rest = text, *word;

	memset(request, 0, sizeof(*request));
	request->verb = strsep(&rest, " ");
	while (rest && (word = strsep(&rest, " "))) {
		char *value = strchr(word, '=');

		if (!value || request->count == REQUEST_FIELDS)
			return false;
		*value++ = 0;
		if (!request_percent_decode(value))
			return false;
		request->fields[request->count].key = word;
		request->fields[request->count++].value = value;
	}
	return *request->verb;
}

const char *request_text(const struct request *request, const char *key)
{
	unsigned int n;

	for (n = 0; n < request->count; n++)
		if (!strcmp(request->fields[n].key, key))
			return request->fields[n].value;
	return NULL;
}

static bool request_parse_number(const char *text, uint64_t *number)
{
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoull(text, &end, 0);
	return !errno && !*end;
}

bool request_number(const struct request *request, const char *key, uint64_t *number,
		    struct buffer *reply)
{
	const char *text = request_text(request, key);

	if (request_parse_number(text, number))
		return true;
	if (text)
		buffer_error(reply, "%s: %s=%s is not a number", request->verb, key, text);
	else
		buffer_error(reply, "%s: %s= is missing", request->verb, key);
	return false;
}

bool request_number_or(const struct request *request, const char *key, uint64_t otherwise,
		       uint64_t *number, struct buffer *reply)
{
	*number = otherwise;
	return !request_text(request, key) || request_number(request, key, number, reply);
}

bool request_fill(const struct request *request, struct memtype_request *asked,
		  struct buffer *reply)
{
	const char *owner = request_text(request, "owner");
	uint64_t memtype;

	memset(asked, 0, sizeof(*asked));
	if (!request_number(request, "start", (uint64_t *)&asked->start, reply) ||
	    !request_number(request, "pages", (uint64_t *)&asked->pages, reply) ||
	    !request_number(request, "memtype", &memtype, reply))
		return false;
	asked->memtype = memtype;
	if (asked->start % PAGE_BYTES) {
		buffer_error(reply, "%s: start=%#llx is not the start of a page", request->verb,
			     asked->start);
		return false;
	}
	if (owner)
		strncpy(asked->owner, owner, sizeof(asked->owner) - 1);
	return true;
}
