// SPDX-License-Identifier: GPL-2.0 OR MIT
/* How each of the calls is made and undone. See driver_calls.h. */
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/set_memory.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "arch_x86.h"
#include "compat.h"
#include "driver_calls.h"
#include "driver_pages.h"
#include "page_table.h"

static int driver_call_any_type(const struct memtype_request *request)
{
	return 0;
}

/*
 * Anybody's memory, as drivers may ask for it. Without a direct map the kernel either warns or says that
 * it has done it (__cpa_process_fault(), 5.10 to 7.3), depending on where RAM ends.
 */
static int driver_call_direct_map(const struct memtype_request *request)
{
	if (request->memtype != MEMTYPE_WB && request->memtype != MEMTYPE_WC &&
	    request->memtype != MEMTYPE_UC_MINUS)
		return -EINVAL;
	/* The functions take an int. */
	if (request->pages > INT_MAX)
		return -ENXIO;
	if (offset_in_page(request->start) || request->start > PHYSICAL_PAGE_MASK ||
	    request->pages > (PHYSICAL_PAGE_MASK - request->start) >> PAGE_SHIFT ||
	    !page_table_maps((unsigned long)phys_to_virt(request->start), request->start,
			     request->pages))
		return -ENXIO;
	return 0;
}

/* The array is one of struct pages. */
static int driver_call_direct_map_of_pages(const struct memtype_request *request)
{
	int error = driver_call_direct_map(request);
	u64 n;

	for (n = 0; !error && n < request->pages; n++)
		if (!pfn_valid((request->start >> PAGE_SHIFT) + n))
			error = -ENXIO;
	return error;
}

static bool driver_call_is_ram(u64 start, u64 pages)
{
	return region_intersects(start, pages << PAGE_SHIFT, IORESOURCE_SYSTEM_RAM,
				 IORES_DESC_NONE) != REGION_DISJOINT;
}

/* The kernel says NULL for any reason; ENOMEM is what drivers make of it. */
static int driver_call_map_io(const struct memtype_request *request, struct driver_mapping *mapping)
{
	size_t size = request->pages << PAGE_SHIFT;
	pgprot_t prot = PAGE_KERNEL;
	void __iomem *address = NULL;

	switch (request->memtype) {
	case MEMTYPE_UC_MINUS:
		address = ioremap(request->start, size);
		break;
	case MEMTYPE_UC:
		address = ioremap_uc(request->start, size);
		break;
	case MEMTYPE_WC:
		address = ioremap_wc(request->start, size);
		break;
	case MEMTYPE_WT:
		address = ioremap_wt(request->start, size);
		break;
	case MEMTYPE_WB:
		address = ioremap_cache(request->start, size);
		break;
	case MEMTYPE_WP:
		/* The only way to ask for it: there is no ioremap_wp(). */
		if (arch_x86_protection(MEMTYPE_WP, &prot))
			address = compat_ioremap_prot(request->start, size, prot);
		break;
	}
	mapping->address = (__force void *)address;
	return address ? 0 : -ENOMEM;
}

static int driver_call_unmap_io(const struct driver_mapping *mapping)
{
	iounmap((__force void __iomem *)mapping->address);
	return 0;
}

static int driver_call_has_flag(const struct memtype_request *request)
{
	return request->memtype == MEMTYPE_WB || request->memtype == MEMTYPE_WT ||
	       request->memtype == MEMTYPE_WC ? 0 : -EINVAL;
}

static int driver_call_map_memory(const struct memtype_request *request,
				  struct driver_mapping *mapping)
{
	unsigned long flag = request->memtype == MEMTYPE_WB ? MEMREMAP_WB :
			     request->memtype == MEMTYPE_WT ? MEMREMAP_WT : MEMREMAP_WC;

	mapping->address = memremap(request->start, request->pages << PAGE_SHIFT, flag);
	return mapping->address ? 0 : -ENOMEM;
}

static int driver_call_unmap_memory(const struct driver_mapping *mapping)
{
	memunmap(mapping->address);
	return 0;
}

static int driver_call_set_memory(const struct memtype_request *request,
				  struct driver_mapping *mapping)
{
	unsigned long address = (unsigned long)phys_to_virt(request->start);

	mapping->address = (void *)address;
	switch (request->memtype) {
	case MEMTYPE_UC_MINUS:
		return set_memory_uc(address, request->pages);
	case MEMTYPE_WC:
		return set_memory_wc(address, request->pages);
	default:
		return set_memory_wb(address, request->pages);
	}
}

static int driver_call_unset_memory(const struct driver_mapping *mapping)
{
	return set_memory_wb((unsigned long)mapping->address, mapping->pages);
}

static int driver_call_set_pages_array(const struct memtype_request *request,
				       struct driver_mapping *mapping)
{
	struct page **array;
	int error;
	u64 n;

	array = kvmalloc_array(request->pages, sizeof(*array), GFP_KERNEL);
	if (!array)
		return -ENOMEM;
	for (n = 0; n < request->pages; n++)
		array[n] = pfn_to_page((request->start >> PAGE_SHIFT) + n);
	switch (request->memtype) {
	case MEMTYPE_UC_MINUS:
		error = set_pages_array_uc(array, request->pages);
		break;
	case MEMTYPE_WC:
		error = set_pages_array_wc(array, request->pages);
		break;
	default:
		error = set_pages_array_wb(array, request->pages);
	}
	if (error) {
		kvfree(array);
		return error;
	}
	mapping->array = array;
	mapping->address = phys_to_virt(request->start);
	return 0;
}

static int driver_call_unset_pages_array(const struct driver_mapping *mapping)
{
	int error = set_pages_array_wb(mapping->array, mapping->pages);

	kvfree(mapping->array);
	return error;
}

static int driver_call_struct_pages(const struct memtype_request *request)
{
	u64 n;

	/* The function takes an unsigned int. */
	if (!request->pages || request->pages > INT_MAX)
		return -ENXIO;
	for (n = 0; n < request->pages; n++)
		if (!pfn_valid((request->start >> PAGE_SHIFT) + n))
			return -ENXIO;
	return 0;
}

/* The entries are made of the protection as it is, less the right to execute (mm/vmalloc.c, 5.10 to 7.3). */
static int driver_call_vmap(const struct memtype_request *request, struct driver_mapping *mapping)
{
	pgprot_t prot = PAGE_KERNEL;
	struct page **array;
	u64 n;

	if (!arch_x86_protection(request->memtype, &prot))
		return -EINVAL;
	array = kvmalloc_array(request->pages, sizeof(*array), GFP_KERNEL);
	if (!array)
		return -ENOMEM;
	for (n = 0; n < request->pages; n++)
		array[n] = pfn_to_page((request->start >> PAGE_SHIFT) + n);
	mapping->address = vmap(array, request->pages, VM_MAP, prot);
	kvfree(array);
	return mapping->address ? 0 : -ENOMEM;
}

static int driver_call_vunmap(const struct driver_mapping *mapping)
{
	vunmap(mapping->address);
	return 0;
}

static int driver_call_combining(const struct memtype_request *request)
{
	return request->memtype == MEMTYPE_WC ? 0 : -EINVAL;
}

/* Of RAM it changes the direct map. */
static int driver_call_combining_as_mapped(const struct memtype_request *request)
{
	if (driver_call_is_ram(request->start, request->pages))
		return driver_call_combining(request) ?: driver_call_direct_map(request);
	return driver_call_combining(request);
}

static int driver_call_reserve_wc(const struct memtype_request *request,
				  struct driver_mapping *mapping)
{
	return arch_io_reserve_memtype_wc(request->start, request->pages << PAGE_SHIFT);
}

static int driver_call_unreserve_wc(const struct driver_mapping *mapping)
{
	arch_io_free_memtype_wc(mapping->start, mapping->pages << PAGE_SHIFT);
	/* Of RAM it has changed the direct map, which freeing leaves as it is (5.10 to 7.3). */
	if (!driver_call_is_ram(mapping->start, mapping->pages))
		return 0;
	return set_memory_wb((unsigned long)phys_to_virt(mapping->start), mapping->pages);
}

static int driver_call_phys_wc_add(const struct memtype_request *request,
				   struct driver_mapping *mapping)
{
	mapping->mtrr = arch_phys_wc_add(request->start, request->pages << PAGE_SHIFT);
	return min(mapping->mtrr, 0);
}

static int driver_call_phys_wc_del(const struct driver_mapping *mapping)
{
	arch_phys_wc_del(mapping->mtrr);
	return 0;
}

const struct driver_call *driver_call(u32 number)
{
	static const struct driver_call calls[] = {
		[MEMTYPE_CALL_IOREMAP] = { driver_call_any_type, driver_call_map_io,
					   driver_call_unmap_io, true },
		[MEMTYPE_CALL_MEMREMAP] = { driver_call_has_flag, driver_call_map_memory,
					    driver_call_unmap_memory, true },
		[MEMTYPE_CALL_SET_MEMORY] = { driver_call_direct_map, driver_call_set_memory,
					      driver_call_unset_memory, true },
		[MEMTYPE_CALL_SET_PAGES_ARRAY] = { driver_call_direct_map_of_pages,
						   driver_call_set_pages_array,
						   driver_call_unset_pages_array, true },
		[MEMTYPE_CALL_RESERVE_WC] = { driver_call_combining_as_mapped,
					      driver_call_reserve_wc, driver_call_unreserve_wc,
					      true },
		/*
		 * It asks for an MTRR, and only where page tables can't say WC: no page gets a
		 * type from it.
		 */
		[MEMTYPE_CALL_PHYS_WC_ADD] = { driver_call_combining, driver_call_phys_wc_add,
					       driver_call_phys_wc_del, false },
		[MEMTYPE_CALL_MEMREMAP_PAGES] = { driver_pages_possible, driver_pages_map,
						  driver_pages_unmap, true },
		[MEMTYPE_CALL_VMAP] = { driver_call_struct_pages, driver_call_vmap,
					driver_call_vunmap, true },
	};

	return number < ARRAY_SIZE(calls) ? &calls[number] : NULL;
}
