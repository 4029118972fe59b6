/* SPDX-License-Identifier: MIT */
/* The kernel's integer types, for the verifier in user space. */
#ifndef HOST_LINUX_TYPES_H
#define HOST_LINUX_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

#define U64_MAX UINT64_MAX
#define __maybe_unused __attribute__((unused))

#endif
