// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See user_huge.h. Where the kernel asks for no large page, single ones are inserted. */
#include <linux/mm.h>

#include "compat.h"
#include "kill_point.h"
#include "state.h"
#include "user_huge.h"
#include "user_mmap.h"

static vm_fault_t user_huge_insert(struct vm_fault *fault)
{
	struct vm_area_struct *vma = fault->vma;
	unsigned long start = fault->address & PMD_MASK;
	unsigned long frame;
	vm_fault_t result;

	if (start < vma->vm_start || start + PMD_SIZE > vma->vm_end)
		return VM_FAULT_FALLBACK;
	frame = vma->vm_pgoff + ((start - vma->vm_start) >> PAGE_SHIFT);
	if (frame % PTRS_PER_PTE)
		return VM_FAULT_FALLBACK;
	result = compat_insert_pfn_pmd(fault, frame);
	mutex_lock(&state_lock);
	kill_point_reached(MEMTYPE_KILL_POINT_FAULT);
	mutex_unlock(&state_lock);
	return result;
}

/* 6.6 says how large the page may be as an order. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
static vm_fault_t user_huge_fault(struct vm_fault *fault, unsigned int order)
{
	return order == PMD_SHIFT - PAGE_SHIFT ? user_huge_insert(fault) : VM_FAULT_FALLBACK;
}
#else
static vm_fault_t user_huge_fault(struct vm_fault *fault, enum page_entry_size size)
{
	return size == PE_SIZE_PMD ? user_huge_insert(fault) : VM_FAULT_FALLBACK;
}
#endif

const struct vm_operations_struct user_huge_operations = {
	.fault = user_mmap_insert_fault,
	.huge_fault = user_huge_fault,
};
