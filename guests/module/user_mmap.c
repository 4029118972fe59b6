// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * /dev/memtype as a driver whose memory processes map: all at once with
 * remap_pfn_range(), a part of it, or page by page when touched, and taken
 * away again behind their backs.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "arch_x86.h"
#include "compat.h"
#include "kill_point.h"
#include "state.h"
#include "user_mapping.h"
#include "user_mmap.h"

/*
 * One open of /dev/memtype: what the next mmap() shall ask for, and what came of the last. Threads
 * and processes may share it, so state_lock guards it.
 */
struct user_file {
	struct memtype_prepare next;
	bool prepared;
	struct memtype_request result;
};

int user_mmap_open(struct file *file)
{
	struct user_file *user = kzalloc(sizeof(*user), GFP_KERNEL);

	file->private_data = user;
	return user ? 0 : -ENOMEM;
}

int user_mmap_close(struct file *file)
{
	kfree(file->private_data);
	return 0;
}

int user_mmap_prepare(struct file *file, const struct memtype_prepare *next)
{
	struct user_file *user = file->private_data;

	if (next->part_first > next->request.pages ||
	    next->part_pages > next->request.pages - next->part_first)
		return -EINVAL;
	mutex_lock(&state_lock);
	user->next = *next;
	user->prepared = true;
	user->result = next->request;
	mutex_unlock(&state_lock);
	return 0;
}

int user_mmap_result(struct file *file, struct memtype_request *request)
{
	struct user_file *user = file->private_data;

	mutex_lock(&state_lock);
	*request = user->result;
	mutex_unlock(&state_lock);
	return 0;
}

/* The type is looked up anew with every page: Linux tracks nothing of what is inserted so. */
static vm_fault_t user_mmap_insert_fault(struct vm_fault *fault)
{
	vm_fault_t result = vmf_insert_pfn(fault->vma, fault->address, fault->pgoff);

	mutex_lock(&state_lock);
	kill_point_reached(MEMTYPE_KILL_POINT_FAULT);
	mutex_unlock(&state_lock);
	return result;
}

static const struct vm_operations_struct insert_operations = {
	.fault = user_mmap_insert_fault,
};

static int user_mmap_map_pages(struct vm_area_struct *vma, const struct memtype_prepare *next)
{
	pgprot_t prot = vma->vm_page_prot;

	if (next->map_method == MEMTYPE_METHOD_COMBINE)
		/* The same as pgprot_writecombine() alone only where that replaces what it is given. */
		prot = pgprot_writecombine(pgprot_noncached(prot));
	else if (!arch_x86_protection(next->request.memtype, &prot))
		return -EINVAL;
	/* As drivers do: what is mapped later, by a fault or mprotect(), begins with these. */
	vma->vm_page_prot = prot;
	if (next->map_method != MEMTYPE_METHOD_INSERT)
		return remap_pfn_range(vma, vma->vm_start + (next->part_first << PAGE_SHIFT),
				       vma->vm_pgoff + next->part_first,
				       next->part_pages << PAGE_SHIFT, prot);
	/* vmf_insert_pfn() has a BUG_ON() for pages that would be copied on write. */
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	compat_vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP);
	return 0;
}

/* What was prepared for this mmap(): a copy, which nobody changes once it has been checked. */
static bool user_mmap_take_prepared(struct user_file *user, struct vm_area_struct *vma,
				    struct memtype_prepare *next)
{
	bool fits;

	mutex_lock(&state_lock);
	*next = user->next;
	fits = user->prepared && next->request.start >> PAGE_SHIFT == vma->vm_pgoff &&
	       next->request.pages == vma_pages(vma) && next->part_pages;
	if (fits)
		user->prepared = false;
	mutex_unlock(&state_lock);
	return fits;
}

static int user_mmap_map_prepared(struct file *file, struct vm_area_struct *vma,
				  struct memtype_prepare *next)
{
	struct user_file *user = file->private_data;
	struct memtype_request *request = &next->request;
	bool insert = next->map_method == MEMTYPE_METHOD_INSERT;
	struct verifier_verdict verdict;
	struct verifier_request asked;
	struct verifier_record *record;
	struct user_mapping *mapping;

	mapping = user_mapping_new(file, vma, vma->vm_pgoff, request->memtype,
				   insert ? &insert_operations : NULL, request->owner);
	if (!mapping)
		return -ENOMEM;
	user_mapping_count(mapping, vma->vm_pgoff + next->part_first, next->part_pages);
	user_mapping_request(vma, mapping, &asked);
	mutex_lock(&state_lock);
	arch_x86_refresh();
	record = verifier_track(&state_verifier, &asked, &verdict);
	state_fill_verdict(&request->verdict, &verdict);
	if (!verdict.error && !record) {
		request->kernel_error = ENOMEM;
	} else if (verdict.error && state_enforce) {
		request->kernel_error = -verdict.error;
	} else {
		request->asked_kernel = 1;
		request->kernel_error = -user_mmap_map_pages(vma, next);
	}
	if (request->kernel_error && record)
		verifier_release(&state_verifier, record);
	user->result = *request;
	kill_point_reached(MEMTYPE_KILL_POINT_MMAP);
	mutex_unlock(&state_lock);
	if (request->kernel_error) {
		user_mapping_free(mapping);
		return -request->kernel_error;
	}
	/* A mapping the verifier refused isn't counted, so nothing has to follow it but its faults. */
	if (!record)
		user_mapping_count(mapping, 1, 0);
	user_mapping_follow(mapping, vma);
	return 0;
}

int user_mmap_map(struct file *file, struct vm_area_struct *vma)
{
	struct memtype_prepare *next;
	int error = -EINVAL;

	/* Too large for the stack. */
	next = kmalloc(sizeof(*next), GFP_KERNEL);
	if (!next)
		return -ENOMEM;
	if (user_mmap_take_prepared(file->private_data, vma, next))
		error = user_mmap_map_prepared(file, vma, next);
	kfree(next);
	return error;
}

/*
 * What vfio-pci does when it turns a device's memory off: the entries go from
 * every process's page tables, the VMAs and so the records stay.
 */
int user_mmap_zap(struct file *file, const struct memtype_range *range)
{
	u64 end = range->start + (range->pages << PAGE_SHIFT);

	if (offset_in_page(range->start) || !range->pages || range->pages > U64_MAX >> PAGE_SHIFT ||
	    end < range->start)
		return -EINVAL;
	unmap_mapping_range(file->f_mapping, range->start, end - range->start, 1);
	return 0;
}
