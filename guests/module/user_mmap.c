// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * /dev/memtype as a driver whose memory processes map: all at once with
 * remap_pfn_range() or as struct pages, a part of it, or page by page when
 * touched, and taken away again behind their backs.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "arch_x86.h"
#include "compat.h"
#include "kill_point.h"
#include "state.h"
#include "user_dma.h"
#include "user_fault.h"
#include "user_mapping.h"
#include "user_mmap.h"
#include "user_pages.h"

/*
 * One open of /dev/memtype: what the next mmap() shall ask for, and what came of the last. Threads
 * and processes may share it, so state_lock guards it.
 */
struct user_file {
	struct device *device;
	struct memtype_prepare next;
	bool prepared;
	struct memtype_request result;
};

int user_mmap_open(struct file *file)
{
	/* misc_open() leaves the device there. */
	const struct miscdevice *misc = file->private_data;
	struct user_file *user = kzalloc(sizeof(*user), GFP_KERNEL);

	file->private_data = user;
	if (!user)
		return -ENOMEM;
	user->device = misc->this_device;
	return 0;
}

int user_mmap_close(struct file *file)
{
	kfree(file->private_data);
	return 0;
}

/* Are the pieces whole pages, as many as the request has, and is the first where that begins? */
static bool user_mmap_pieces_fit(const struct memtype_prepare *next)
{
	u64 pages = 0;
	u32 n;

	if (!next->piece_count)
		return true;
	if (next->piece_count > MEMTYPE_MOST_PIECES || next->pieces[0].start != next->request.start ||
	    next->map_method != MEMTYPE_METHOD_REMAP || next->part_first ||
	    next->part_pages != next->request.pages)
		return false;
	for (n = 0; n < next->piece_count; n++) {
		if (offset_in_page(next->pieces[n].start) || !next->pieces[n].pages ||
		    next->pieces[n].pages > next->request.pages - pages)
			return false;
		pages += next->pieces[n].pages;
	}
	return pages == next->request.pages;
}

/* Does the method map no more than the part that it is told? The others map all of a VMA. */
static bool user_mmap_maps_parts(u32 map_method)
{
	return map_method == MEMTYPE_METHOD_REMAP || map_method == MEMTYPE_METHOD_COMBINE ||
	       map_method == MEMTYPE_METHOD_INSERT_PAGE ||
	       map_method == MEMTYPE_METHOD_INSERT_PAGES;
}

int user_mmap_prepare(struct file *file, const struct memtype_prepare *next)
{
	struct user_file *user = file->private_data;

	if (next->map_method >= MEMTYPE_METHODS ||
	    next->part_first > next->request.pages ||
	    next->part_pages > next->request.pages - next->part_first ||
	    (next->part_pages != next->request.pages && !user_mmap_maps_parts(next->map_method)) ||
	    !user_mmap_pieces_fit(next))
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

/* What maps the pages when they are touched; NULL where mmap() does. */
static const struct vm_operations_struct *user_mmap_faults(u32 map_method)
{
	switch (map_method) {
	case MEMTYPE_METHOD_INSERT:
		return &user_fault_operations;
	case MEMTYPE_METHOD_INSERT_PMD:
		return &user_fault_huge_operations;
	case MEMTYPE_METHOD_INSERT_PUD:
		return &user_fault_larger_operations;
	case MEMTYPE_METHOD_INSERT_MIXED:
		return &user_fault_mixed_operations;
	default:
		return NULL;
	}
}

static int user_mmap_remap(struct vm_area_struct *vma, const struct user_mapping *mapping,
			   pgprot_t prot)
{
	const struct user_piece *piece;
	int error = 0;
	u32 n;

	for (n = 0; n < mapping->piece_count && !error; n++) {
		piece = &mapping->pieces[n];
		error = remap_pfn_range(vma, vma->vm_start + ((piece->offset - vma->vm_pgoff) << PAGE_SHIFT),
					piece->frame, piece->pages << PAGE_SHIFT, prot);
	}
	return error;
}

static void user_mmap_add_pieces(struct user_mapping *mapping, const struct vm_area_struct *vma,
				 const struct memtype_prepare *next)
{
	u64 offset = vma->vm_pgoff + next->part_first;
	u32 n;

	if (!next->piece_count)
		user_mapping_add_piece(mapping, offset, offset, next->part_pages);
	for (n = 0; n < next->piece_count; n++) {
		user_mapping_add_piece(mapping, offset, next->pieces[n].start >> PAGE_SHIFT,
				       next->pieces[n].pages);
		offset += next->pieces[n].pages;
	}
}

/* Of all pieces or, when the verifier refuses one, of none. The verdict is that, or the last one's. */
static int user_mmap_track(struct vm_area_struct *vma, const struct user_mapping *mapping,
			   struct verifier_record *records[MEMTYPE_MOST_PIECES],
			   struct verifier_verdict *verdict)
{
	struct verifier_request asked;
	u32 n;

	for (n = 0; n < mapping->piece_count; n++) {
		user_mapping_request(vma, mapping, n, &asked);
		records[n] = verifier_track(&state_verifier, &asked, verdict);
		if (!records[n])
			break;
	}
	if (n == mapping->piece_count)
		return 0;
	while (n)
		verifier_release(&state_verifier, records[--n]);
	return verdict->error ? 0 : -ENOMEM;
}

/*
 * The memory that is told begins at address 0, since vm_pgoff is a page frame here, and ends where
 * the VMA does. It takes all of a VMA, as its callers do.
 */
static int user_mmap_iomap(struct vm_area_struct *vma)
{
	u64 end = (u64)vma->vm_pgoff + vma_pages(vma);

	if (end > ULONG_MAX >> PAGE_SHIFT)
		return -EINVAL;
	return vm_iomap_memory(vma, 0, end << PAGE_SHIFT);
}

static int user_mmap_map_pages(struct device *device, struct vm_area_struct *vma,
			       const struct memtype_prepare *next,
			       const struct user_mapping *mapping)
{
	unsigned long flags = VM_PFNMAP;
	pgprot_t prot = vma->vm_page_prot;

	/* What comes of vm_page_prot is for the kernel to say. */
	if (user_dma_method(next->map_method))
		return user_dma_map(device, vma, next->map_method);
	if (next->map_method == MEMTYPE_METHOD_COMBINE)
		/* The same as pgprot_writecombine() alone only where that replaces what it is given. */
		prot = pgprot_writecombine(pgprot_noncached(prot));
	else if (!arch_x86_protection(next->request.memtype, &prot))
		return -EINVAL;
	/* As drivers do: what is mapped later, by a fault or mprotect(), begins with these. */
	vma->vm_page_prot = prot;
	if (next->map_method == MEMTYPE_METHOD_IOMAP)
		return user_mmap_iomap(vma);
	if (user_pages_method(next->map_method))
		return user_pages_map(vma, &mapping->pieces[0], next->map_method);
	if (!user_mmap_faults(next->map_method))
		return user_mmap_remap(vma, mapping, prot);
	if (next->map_method == MEMTYPE_METHOD_INSERT_MIXED)
		flags = VM_MIXEDMAP;
	/* vmf_insert_pfn() has a BUG_ON() for pages that would be copied on write. */
	else if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	compat_vm_flags_set(vma, flags | VM_IO | VM_DONTEXPAND | VM_DONTDUMP);
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
	struct verifier_record *records[MEMTYPE_MOST_PIECES];
	struct user_file *user = file->private_data;
	struct memtype_request *request = &next->request;
	struct verifier_verdict verdict;
	struct user_mapping *mapping;
	int error;
	u32 n;

	mapping = user_mapping_new(file, vma, request->memtype, user_mmap_faults(next->map_method),
				   request->owner);
	if (!mapping)
		return -ENOMEM;
	user_mmap_add_pieces(mapping, vma, next);
	mutex_lock(&state_lock);
	arch_x86_refresh();
	error = user_mmap_track(vma, mapping, records, &verdict);
	/* A mapping the verifier refused isn't counted, so nothing has to follow it but its faults. */
	mapping->counted = !error && !verdict.error;
	state_fill_verdict(&request->verdict, &verdict);
	if (error) {
		request->kernel_error = -error;
	} else if (verdict.error && state_enforce) {
		request->kernel_error = -verdict.error;
	} else {
		request->asked_kernel = 1;
		request->kernel_error = -user_mmap_map_pages(user->device, vma, next, mapping);
	}
	for (n = 0; request->kernel_error && mapping->counted && n < mapping->piece_count; n++)
		verifier_release(&state_verifier, records[n]);
	user->result = *request;
	kill_point_reached(MEMTYPE_KILL_POINT_MMAP);
	mutex_unlock(&state_lock);
	if (request->kernel_error) {
		user_mapping_free(mapping);
		return -request->kernel_error;
	}
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
