/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Which memory tests may use. The module decides. */
#ifndef ALLOWED_H
#define ALLOWED_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"

/* Where it begins. False when they may use any, or none. */
bool allowed_start(uint64_t *start);
/* May tests use that memory? Else the reply says that they may not. */
bool allowed_memory(uint64_t start, uint64_t pages, struct buffer *reply);

#endif
