// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What drivers do: ioremap in its six kinds, memremap, set_memory, and letting go again. */
#include <linux/gfp.h>
#include <linux/idr.h>
#include <linux/io.h>
#include <linux/set_memory.h>
#include <linux/slab.h>

#include "agent.h"
#include "arch_x86.h"
#include "compat.h"
#include "page_table.h"

struct driver_mapping {
	u32 call;
	void *address;
	u64 pages;
	struct verifier_record *record;	/* NULL when the verifier refused */
};

struct ram_block {
	struct list_head node;
	u64 start;
	u64 pages;
};

static DEFINE_IDR(mappings);
static LIST_HEAD(ram_blocks);

static void *map_io(const struct memtype_request *request)
{
	size_t size = request->pages << PAGE_SHIFT;
	pgprot_t prot = PAGE_KERNEL;

	switch (request->memtype) {
	case MEMTYPE_UC_MINUS:
		return (__force void *)ioremap(request->start, size);
	case MEMTYPE_UC:
		return (__force void *)ioremap_uc(request->start, size);
	case MEMTYPE_WC:
		return (__force void *)ioremap_wc(request->start, size);
	case MEMTYPE_WT:
		return (__force void *)ioremap_wt(request->start, size);
	case MEMTYPE_WB:
		return (__force void *)ioremap_cache(request->start, size);
	case MEMTYPE_WP:
		/* The only way to ask for it: there is no ioremap_wp(). */
		if (!arch_x86_protection(MEMTYPE_WP, &prot))
			return NULL;
		return (__force void *)compat_ioremap_prot(request->start, size, prot);
	default:
		return NULL;
	}
}

static void *map_memory(const struct memtype_request *request)
{
	size_t size = request->pages << PAGE_SHIFT;

	switch (request->memtype) {
	case MEMTYPE_WB:
		return memremap(request->start, size, MEMREMAP_WB);
	case MEMTYPE_WT:
		return memremap(request->start, size, MEMREMAP_WT);
	case MEMTYPE_WC:
		return memremap(request->start, size, MEMREMAP_WC);
	default:
		return NULL;
	}
}

static bool owns_ram(u64 start, u64 pages)
{
	struct ram_block *block;

	list_for_each_entry(block, &ram_blocks, node)
		if (start >= block->start && start < block->start + (block->pages << PAGE_SHIFT) &&
		    pages <= block->pages - ((start - block->start) >> PAGE_SHIFT))
			return true;
	return false;
}

/* Returns 0 or a positive errno, as the kernel's own answer. */
static int set_memory(unsigned long address, u64 pages, u32 memtype)
{
	switch (memtype) {
	case MEMTYPE_UC_MINUS:
		return -set_memory_uc(address, pages);
	case MEMTYPE_WC:
		return -set_memory_wc(address, pages);
	default:
		return -set_memory_wb(address, pages);
	}
}

static bool has_call(const struct memtype_request *request)
{
	switch (request->call) {
	case MEMTYPE_CALL_IOREMAP:
		return true;
	case MEMTYPE_CALL_MEMREMAP:
		return request->memtype == MEMTYPE_WB || request->memtype == MEMTYPE_WT ||
		       request->memtype == MEMTYPE_WC;
	case MEMTYPE_CALL_SET_MEMORY:
		/* Ours alone: changing the direct map of somebody else's page is not a test. */
		return (request->memtype == MEMTYPE_WB || request->memtype == MEMTYPE_WC ||
			request->memtype == MEMTYPE_UC_MINUS) &&
		       owns_ram(request->start, request->pages);
	default:
		return false;
	}
}

/* Returns 0 or a positive errno. The kernel says NULL for any reason; ENOMEM is what drivers make of it. */
static int ask_kernel(struct memtype_request *request, struct driver_mapping *mapping)
{
	/* The functions take bytes, and a size that wraps would be a small one. */
	if (request->pages > SIZE_MAX >> PAGE_SHIFT)
		return EINVAL;
	switch (request->call) {
	case MEMTYPE_CALL_IOREMAP:
		mapping->address = map_io(request);
		return mapping->address ? 0 : ENOMEM;
	case MEMTYPE_CALL_MEMREMAP:
		mapping->address = map_memory(request);
		return mapping->address ? 0 : ENOMEM;
	default:
		mapping->address = phys_to_virt(request->start);
		return set_memory((unsigned long)mapping->address, request->pages,
				  request->memtype);
	}
}

static void unmap(const struct driver_mapping *mapping)
{
	switch (mapping->call) {
	case MEMTYPE_CALL_IOREMAP:
		iounmap((__force void __iomem *)mapping->address);
		break;
	case MEMTYPE_CALL_MEMREMAP:
		memunmap(mapping->address);
		break;
	case MEMTYPE_CALL_SET_MEMORY:
		set_memory_wb((unsigned long)mapping->address, mapping->pages);
		break;
	}
}

static int map_locked(struct memtype_request *request, struct driver_mapping *mapping)
{
	struct verifier_request asked = {
		.first = request->start >> PAGE_SHIFT,
		.pages = request->pages,
		.memtype = request->memtype,
		.owner = verifier_owner(&memtype_verifier, request->owner),
	};
	struct verifier_verdict verdict;
	int handle;

	if (!asked.owner)
		return -ENOMEM;
	mapping->record = verifier_track(&memtype_verifier, &asked, &verdict);
	memtype_fill_verdict(&request->verdict, &verdict);
	if (!verdict.error && !mapping->record)
		return -ENOMEM;
	if (verdict.error && memtype_enforce)
		return 0;
	request->asked_kernel = 1;
	request->kernel_error = ask_kernel(request, mapping);
	if (request->kernel_error)
		goto untrack;
	/* Cyclic: an old handle must not come to mean somebody else's mapping. */
	handle = idr_alloc_cyclic(&mappings, mapping, 1, 0, GFP_KERNEL);
	if (handle < 0) {
		unmap(mapping);
		if (mapping->record)
			verifier_release(&memtype_verifier, mapping->record);
		return handle;
	}
	request->handle = handle;
	page_table_read((unsigned long)mapping->address, request->pages, &request->page_table);
	return 0;

untrack:
	if (mapping->record)
		verifier_release(&memtype_verifier, mapping->record);
	return 0;
}

int driver_map(struct memtype_request *request)
{
	struct driver_mapping *mapping;
	int error = -EINVAL;

	mapping = kzalloc(sizeof(*mapping), GFP_KERNEL);
	if (!mapping)
		return -ENOMEM;
	mapping->call = request->call;
	mapping->pages = request->pages;
	mutex_lock(&memtype_lock);
	if (has_call(request))
		error = map_locked(request, mapping);
	mutex_unlock(&memtype_lock);
	if (!request->handle)
		kfree(mapping);
	return error;
}

static void release_locked(struct driver_mapping *mapping)
{
	unmap(mapping);
	if (mapping->record)
		verifier_release(&memtype_verifier, mapping->record);
	kfree(mapping);
}

int driver_release(u64 handle)
{
	struct driver_mapping *mapping;

	if (handle > INT_MAX)
		return -ENOENT;
	mutex_lock(&memtype_lock);
	mapping = idr_remove(&mappings, handle);
	if (mapping)
		release_locked(mapping);
	mutex_unlock(&memtype_lock);
	return mapping ? 0 : -ENOENT;
}

int driver_read(u64 handle, struct memtype_page_table *table)
{
	struct driver_mapping *mapping;

	if (handle > INT_MAX)
		return -ENOENT;
	mutex_lock(&memtype_lock);
	mapping = idr_find(&mappings, handle);
	if (mapping)
		page_table_read((unsigned long)mapping->address, mapping->pages, table);
	mutex_unlock(&memtype_lock);
	return mapping ? 0 : -ENOENT;
}

int driver_allocate_ram(struct memtype_ram *ram)
{
	struct ram_block *block;
	struct page *page;

	if (!ram->pages || ram->pages > 1024)
		return -EINVAL;
	block = kzalloc(sizeof(*block), GFP_KERNEL);
	if (!block)
		return -ENOMEM;
	page = alloc_pages(GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN,
			   get_order(ram->pages << PAGE_SHIFT));
	if (!page) {
		kfree(block);
		return -ENOMEM;
	}
	block->start = page_to_phys(page);
	block->pages = ram->pages;
	ram->start = block->start;
	mutex_lock(&memtype_lock);
	list_add(&block->node, &ram_blocks);
	mutex_unlock(&memtype_lock);
	return 0;
}

void driver_release_all(void)
{
	struct driver_mapping *mapping;
	struct ram_block *block, *next;
	int handle;

	mutex_lock(&memtype_lock);
	idr_for_each_entry(&mappings, mapping, handle) {
		idr_remove(&mappings, handle);
		release_locked(mapping);
	}
	list_for_each_entry_safe(block, next, &ram_blocks, node) {
		list_del(&block->node);
		__free_pages(pfn_to_page(block->start >> PAGE_SHIFT),
			     get_order(block->pages << PAGE_SHIFT));
		kfree(block);
	}
	mutex_unlock(&memtype_lock);
}
