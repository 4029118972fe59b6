// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See user_fault.h. Where the kernel asks for no large page, single ones are inserted. */
#include <linux/mm.h>

#include "compat.h"
#include "kill_point.h"
#include "state.h"
#include "user_fault.h"

static void user_fault_done(void)
{
	mutex_lock(&state_lock);
	kill_point_reached(MEMTYPE_KILL_POINT_FAULT);
	mutex_unlock(&state_lock);
}

/* The type is looked up anew with every page: Linux tracks nothing of what is inserted so. */
static vm_fault_t user_fault_insert(struct vm_fault *fault)
{
	vm_fault_t result = vmf_insert_pfn(fault->vma, fault->address, fault->pgoff);

	user_fault_done();
	return result;
}

/*
 * In a VMA with VM_MIXEDMAP. Where entries have a bit for special pages, as on x86, the page is one of
 * them, with struct page or without, and its type is looked up too (mm/memory.c, __vm_insert_mixed(),
 * 5.10 to 7.3).
 */
static vm_fault_t user_fault_insert_mixed(struct vm_fault *fault)
{
	vm_fault_t result = compat_insert_mixed(fault);

	user_fault_done();
	return result;
}

static vm_fault_t user_fault_insert_huge(struct vm_fault *fault, unsigned long size,
					 vm_fault_t (*insert)(struct vm_fault *, unsigned long))
{
	struct vm_area_struct *vma = fault->vma;
	unsigned long start = fault->address & -size;
	unsigned long frame;
	vm_fault_t result;

	if (start < vma->vm_start || start + size > vma->vm_end)
		return VM_FAULT_FALLBACK;
	frame = vma->vm_pgoff + ((start - vma->vm_start) >> PAGE_SHIFT);
	if (frame % (size >> PAGE_SHIFT))
		return VM_FAULT_FALLBACK;
	result = insert(fault, frame);
	user_fault_done();
	return result;
}

static vm_fault_t user_fault_huge(struct vm_fault *fault, COMPAT_FAULT_SIZE size)
{
	if (size != COMPAT_FAULT_PMD)
		return VM_FAULT_FALLBACK;
	return user_fault_insert_huge(fault, PMD_SIZE, compat_insert_pfn_pmd);
}

static vm_fault_t user_fault_larger(struct vm_fault *fault, COMPAT_FAULT_SIZE size)
{
	if (size != COMPAT_FAULT_PUD)
		return user_fault_huge(fault, size);
	return user_fault_insert_huge(fault, PUD_SIZE, compat_insert_pfn_pud);
}

const struct vm_operations_struct user_fault_operations = {
	.fault = user_fault_insert,
};

const struct vm_operations_struct user_fault_huge_operations = {
	.fault = user_fault_insert,
	.huge_fault = user_fault_huge,
};

const struct vm_operations_struct user_fault_larger_operations = {
	.fault = user_fault_insert,
	.huge_fault = user_fault_larger,
};

const struct vm_operations_struct user_fault_mixed_operations = {
	.fault = user_fault_insert_mixed,
};
