// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Much of what changes memory types is for the kernel's own parts, and not exported: set_memory_4k(),
 * set_pages_uc(), arch_phys_wc_index(). Tests call it all the same, by its address.
 *
 * Nothing here knows what a function takes. That is for the caller to know: a number where a pointer is
 * expected is an oops.
 */
#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <asm/cpufeature.h>

#include "kernel_function.h"
#include "page_table.h"

typedef u64 (*kernel_function_any)(u64, u64, u64, u64, u64, u64);

int kernel_function_find(const char *symbol, void **address)
{
	/* kallsyms_lookup_name() is not for modules any more (5.7), but a kprobe says where its symbol is. */
	struct kprobe probe = { .symbol_name = symbol };
	int error;

#ifdef X86_FEATURE_IBT
	/* A function that the kernel never calls through a pointer has no ENDBR left (6.0 and later). */
	if (boot_cpu_has(X86_FEATURE_IBT))
		return -EOPNOTSUPP;
#endif
	error = register_kprobe(&probe);
	if (error)
		return error;
	*address = probe.addr;
	unregister_kprobe(&probe);
	return 0;
}

static u64 __nocfi kernel_function_enter(void *address, const u64 *arguments)
{
	return ((kernel_function_any)address)(arguments[0], arguments[1], arguments[2], arguments[3],
					      arguments[4], arguments[5]);
}

int kernel_function_call(struct memtype_kernel_call *call)
{
	u64 arguments[MEMTYPE_ARGUMENTS];
	void *address = (void *)(unsigned long)call->address;
	unsigned int n;

	call->function[MEMTYPE_FUNCTION_LENGTH - 1] = 0;
	call->direct_map = (unsigned long)phys_to_virt(0);
	call->page_array = (unsigned long)pfn_to_page(0);
	call->page_bytes = sizeof(struct page);
	if (!call->function[0] && !address)
		return 0;
	for (n = 0; n < MEMTYPE_ARGUMENTS; n++) {
		arguments[n] = call->arguments[n];
		if (!(call->in_memory & 1u << n))
			continue;
		if (arguments[n] >= sizeof(call->memory))
			return -EINVAL;
		arguments[n] += (unsigned long)call->memory;
	}
	/* A probe takes memory, which a caller may have made scarce who knows the address. */
	if (call->function[0])
		call->error = -kernel_function_find(call->function, &address);
	call->address = (unsigned long)address;
	if (!call->error && !call->only_find)
		call->returned = kernel_function_enter(address, arguments);
	return 0;
}

int kernel_function_read_page_table(struct memtype_kernel_pages *asked)
{
	/* Below lie those of processes, whose page tables may go at any time. */
	if (!asked->pages || asked->pages > U32_MAX || asked->address < PAGE_OFFSET ||
	    asked->pages > (ULONG_MAX - asked->address) >> PAGE_SHIFT)
		return -EINVAL;
	page_table_read(asked->address, asked->pages, &asked->page_table);
	asked->maps = page_table_maps(asked->address, asked->start, asked->pages);
	return 0;
}
