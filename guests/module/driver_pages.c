// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * See driver_pages.h. The type isn't asked for but follows from the kind of memory: UC- of a PCI
 * device's (p2pdma), WB of all others (mm/memremap.c, memremap_pages(), 5.10 to 7.3).
 */
#include <linux/ioport.h>
#include <linux/memremap.h>
#include <linux/slab.h>

#include "driver_pages.h"

/* Struct pages come and go in pieces of this size (SUBSECTION_SIZE). */
#define PIECE_PAGES (SZ_2M >> PAGE_SHIFT)
/* Each needs 64 bytes of RAM. */
#define MOST_PAGES (SZ_64M >> PAGE_SHIFT)

/* linux/memremap.h names the kernel's functions only with that option, which memtype.config doesn't set. */
static void *driver_pages_create(struct dev_pagemap *pagemap)
{
#ifdef CONFIG_ZONE_DEVICE
	return memremap_pages(pagemap, NUMA_NO_NODE);
#else
	return ERR_PTR(-EOPNOTSUPP);
#endif
}

static void driver_pages_remove(struct dev_pagemap *pagemap)
{
#ifdef CONFIG_ZONE_DEVICE
	memunmap_pages(pagemap);
#endif
}

int driver_pages_possible(const struct memtype_request *request)
{
	if (request->memtype != MEMTYPE_WB && request->memtype != MEMTYPE_UC_MINUS)
		return -EINVAL;
	/* The kernel would warn of what isn't whole pieces, or has struct pages already. */
	if (!request->pages || request->pages > MOST_PAGES || request->pages % PIECE_PAGES ||
	    request->start % SZ_2M || request->start > PHYSICAL_PAGE_MASK - SZ_64M ||
	    region_intersects(request->start, request->pages << PAGE_SHIFT, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT)
		return -EINVAL;
	return 0;
}

int driver_pages_map(const struct memtype_request *request, struct driver_mapping *mapping)
{
	struct dev_pagemap *pagemap = kzalloc(sizeof(*pagemap), GFP_KERNEL);
	void *address;

	if (!pagemap)
		return -ENOMEM;
	pagemap->type = request->memtype == MEMTYPE_WB ? MEMORY_DEVICE_GENERIC :
							 MEMORY_DEVICE_PCI_P2PDMA;
	pagemap->range.start = request->start;
	pagemap->range.end = request->start + (request->pages << PAGE_SHIFT) - 1;
	pagemap->nr_range = 1;
	address = driver_pages_create(pagemap);
	if (IS_ERR(address)) {
		kfree(pagemap);
		return PTR_ERR(address);
	}
	mapping->pagemap = pagemap;
	mapping->address = address;
	return 0;
}

int driver_pages_unmap(const struct driver_mapping *mapping)
{
	driver_pages_remove(mapping->pagemap);
	kfree(mapping->pagemap);
	return 0;
}
