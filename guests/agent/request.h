/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* A request, which is the text of a line: verb key=value key=value. */
#ifndef REQUEST_H
#define REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "../module/memtype_uapi.h"
#include "buffer.h"

#define REQUEST_LENGTH 4096
#define REQUEST_FIELDS 24

/* A request, taken apart in place. */
struct request {
	char *verb;
	unsigned int count;
	struct {
		char *key;
		char *value;
	} fields[REQUEST_FIELDS];
};

/* False when the text is no request. */
bool request_parse(struct request *request, char *text);
/* NULL when it isn't there. */
const char *request_text(const struct request *request, const char *key);
/* Writes the error into reply and returns false when the field is missing or no number. */
bool request_number(const struct request *request, const char *key, uint64_t *number,
		    struct buffer *reply);
/* The same, but a field that isn't there has another value. */
bool request_number_or(const struct request *request, const char *key, uint64_t otherwise,
		       uint64_t *number, struct buffer *reply);

/* The fields that every mapping has. Writes the error into reply and returns false when one is wrong. */
bool request_fill(const struct request *request, struct memtype_request *asked,
		  struct buffer *reply);

#endif
