/* SPDX-License-Identifier: MIT */
/* What guests/module/mtrr.c takes from the kernel, for a CPU that framework/tests/x86/test_module_mtrr.py describes. */
#ifndef HOST_MTRR_KERNEL_H
#define HOST_MTRR_KERNEL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <linux/types.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef unsigned long long u64;

#define U32_MAX UINT32_MAX
#define U64_MAX (~0ULL)
#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define GENMASK_ULL(high, low) (~0ULL >> (63 - (high)) & ~0ULL << (low))
#define PAGE_SHIFT 12
#define PMD_SIZE (1UL << 21)
#define PUD_SIZE (1UL << 30)
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define min(a, b) ((a) < (b) ? (a) : (b))
#define min_t(type, a, b) min((type)(a), (type)(b))
#define ALIGN_DOWN(address, size) ((address) & ~((u64)(size) - 1))
#define hweight32(word) __builtin_popcount(word)
#define __ffs(word) __builtin_ctzl(word)
#define fls64(word) ((word) ? 64 - __builtin_clzll(word) : 0)
#define current NULL
#define fatal_signal_pending(task) false
#define cond_resched()
#define strscpy(to, from, size) strncpy(to, from, size)

enum { X86_FEATURE_MTRR, X86_FEATURE_PAT, X86_FEATURE_GBPAGES };
enum { X86_VENDOR_AMD, X86_VENDOR_HYGON };

static const struct {
	u8 x86_phys_bits;
	int x86_vendor;
	char x86_vendor_id[16];
} boot_cpu_data;

/* The registers come from the test, so nothing is read. */
#define boot_cpu_has(feature) true
#define get_cpu() 0
#define put_cpu()
#define rdmsr_safe(msr, low, high) ((void)(msr), *(low) = *(high) = 0, 0)
#define read_cr0() 0
#define __read_cr3() 0
#define smp_call_function_single(cpu, function, data, wait) ((function)(data), 0)

#endif
