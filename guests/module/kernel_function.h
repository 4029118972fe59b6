/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Functions of the kernel that it doesn't export, for a guest of our own alone. */
#ifndef KERNEL_FUNCTION_H
#define KERNEL_FUNCTION_H

#include "memtype_uapi.h"

/* Clang's forward-edge checks want a type that a symbol looked up by name hasn't; 5.10 knows none. */
#ifndef __nocfi
#define __nocfi
#endif

/*
 * Where a function is, by a kprobe. Returns 0 or a negative errno: -ENOENT where there is none of that
 * name, -EADDRNOTAVAIL where there are several, -EINVAL where a probe is forbidden, -EOPNOTSUPP where
 * this CPU would not let it be called.
 */
int kernel_function_find(const char *symbol, void **address);

/* Calls a function, whatever it does, and tells what came of it. Why it can't be called is no failure. */
int kernel_function_call(struct memtype_kernel_call *call);

/* The page tables of any address of the kernel's. */
int kernel_function_read_page_table(struct memtype_kernel_pages *asked);

#endif
