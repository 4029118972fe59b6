// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * See user_pages.h. The kernel asks nobody which type the pages have: an entry is made from
 * vm_page_prot as it is, the VMA becomes VM_MIXEDMAP and not VM_PFNMAP, and nothing is reserved
 * (mm/memory.c, insert_page_into_pte_locked(), 5.10 to 7.3).
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "user_mapping.h"
#include "user_pages.h"

bool user_pages_method(u32 map_method)
{
	return map_method == MEMTYPE_METHOD_INSERT_PAGE ||
	       map_method == MEMTYPE_METHOD_INSERT_PAGES ||
	       map_method == MEMTYPE_METHOD_REMAP_VMALLOC;
}

static bool user_pages_exist(const struct user_piece *piece)
{
	u64 n;

	for (n = 0; n < piece->pages; n++)
		/*
		 * Struct pages of memremap_pages() go with it, whoever maps them: from 5.18 on
		 * it waits for no reference of theirs (mm/memremap.c, memunmap_pages()), before
		 * it waits for ever.
		 */
		if (!pfn_valid(piece->frame + n) ||
		    is_zone_device_page(pfn_to_page(piece->frame + n)))
			return false;
	return true;
}

static int user_pages_insert_each(struct vm_area_struct *vma, unsigned long address,
				  const struct user_piece *piece)
{
	int error = 0;
	u64 n;

	for (n = 0; n < piece->pages && !error; n++)
		error = vm_insert_page(vma, address + (n << PAGE_SHIFT), pfn_to_page(piece->frame + n));
	return error;
}

static int user_pages_insert_array(struct vm_area_struct *vma, unsigned long address,
				   struct page **array, u64 pages)
{
	unsigned long left = pages;

	return vm_insert_pages(vma, address, array, &left);
}

/*
 * What vmalloc_user() gives, made of these very pages: the kernel asks for VM_USERMAP, and finds each
 * page by its address there (mm/vmalloc.c, remap_vmalloc_range_partial(), 5.10 to 7.3). The process
 * keeps them without that address.
 */
static int user_pages_remap_vmalloc(struct vm_area_struct *vma, struct page **array, u64 pages)
{
	void *address;
	int error;

	if (pages != vma_pages(vma) || pages > UINT_MAX)
		return -EINVAL;
	address = vmap(array, pages, VM_MAP | VM_USERMAP, PAGE_KERNEL);
	if (!address)
		return -ENOMEM;
	error = remap_vmalloc_range(vma, address, 0);
	vunmap(address);
	return error;
}

int user_pages_map(struct vm_area_struct *vma, const struct user_piece *piece, u32 map_method)
{
	unsigned long address = vma->vm_start + ((piece->offset - vma->vm_pgoff) << PAGE_SHIFT);
	struct page **array;
	int error;
	u64 n;

	if (!user_pages_exist(piece))
		return -EINVAL;
	/* As remap_pfn_range() does: what comes and goes with its VMA must not grow. */
	compat_vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	if (map_method == MEMTYPE_METHOD_INSERT_PAGE)
		return user_pages_insert_each(vma, address, piece);
	array = kvmalloc_array(piece->pages, sizeof(*array), GFP_KERNEL);
	if (!array)
		return -ENOMEM;
	for (n = 0; n < piece->pages; n++)
		array[n] = pfn_to_page(piece->frame + n);
	if (map_method == MEMTYPE_METHOD_REMAP_VMALLOC)
		error = user_pages_remap_vmalloc(vma, array, piece->pages);
	else
		error = user_pages_insert_array(vma, address, array, piece->pages);
	kvfree(array);
	return error;
}
