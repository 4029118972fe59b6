// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What drivers have: mappings and reservations by handle, and RAM of their own. */
#include <linux/gfp.h>
#include <linux/idr.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "arch_x86.h"
#include "driver_calls.h"
#include "driver_operations.h"
#include "page_table.h"
#include "state.h"
#include "user_mapping.h"

struct ram_block {
	struct list_head node;
	u64 start;
	u64 pages;
	bool spoilt;		/* could not be given its old type */
};

static DEFINE_IDR(mappings);
static LIST_HEAD(ram_blocks);
/* With those that are kept. */
static atomic_long_t ram_pages;
static u64 kept_pages;

/* Empty for what only reserves: there is no address to look at. */
static void driver_read_page_table(const struct driver_mapping *mapping,
				   struct memtype_page_table *table)
{
	if (mapping->address)
		page_table_read((unsigned long)mapping->address, mapping->pages, table);
	else
		memset(table, 0, sizeof(*table));
}

/* Of what asks for no type only the range is judged, as verifier_lookup() does. */
static void driver_judge_range(const struct verifier_request *asked,
			       struct verifier_verdict *verdict)
{
	unsigned int memtype;
	bool in_use;

	*verdict = (struct verifier_verdict){ .rule = VERIFIER_ACCEPTED };
	if (verifier_lookup(&state_verifier, asked->first, asked->pages, &memtype, &in_use) == -EINVAL)
		*verdict = (struct verifier_verdict){ .rule = VERIFIER_MALFORMED, .error = -EINVAL };
}

static void driver_unmap(const struct driver_mapping *mapping)
{
	u64 end = mapping->start + (mapping->pages << PAGE_SHIFT);
	struct ram_block *block;

	if (!mapping->call->unmap(mapping))
		return;
	list_for_each_entry(block, &ram_blocks, node)
		if (mapping->start < block->start + (block->pages << PAGE_SHIFT) &&
		    end > block->start)
			block->spoilt = true;
}

static int driver_map_locked(struct memtype_request *request, struct driver_mapping *mapping)
{
	struct verifier_request asked = {
		.first = request->start >> PAGE_SHIFT,
		.pages = request->pages,
		.memtype = request->memtype,
		.owner = verifier_owner(&state_verifier, request->owner),
	};
	struct verifier_verdict verdict;
	int handle;

	if (!asked.owner)
		return -ENOMEM;
	arch_x86_refresh();
	if (mapping->call->judged)
		mapping->record = verifier_track(&state_verifier, &asked, &verdict);
	else
		driver_judge_range(&asked, &verdict);
	state_fill_verdict(&request->verdict, &verdict);
	if (mapping->call->judged && !verdict.error && !mapping->record)
		return -ENOMEM;
	if (verdict.error && state_enforce)
		return 0;
	request->asked_kernel = 1;
	/* The functions take bytes, and a size that wraps would be a small one. */
	if (request->pages > SIZE_MAX >> PAGE_SHIFT)
		request->kernel_error = EINVAL;
	else
		request->kernel_error = -mapping->call->map(request, mapping);
	if (request->kernel_error)
		goto untrack;
	/* Cyclic: an old handle must not come to mean somebody else's mapping. */
	handle = idr_alloc_cyclic(&mappings, mapping, 1, 0, GFP_KERNEL);
	if (handle < 0) {
		driver_unmap(mapping);
		if (mapping->record)
			verifier_release(&state_verifier, mapping->record);
		return handle;
	}
	request->handle = handle;
	driver_read_page_table(mapping, &request->page_table);
	return 0;

untrack:
	if (mapping->record)
		verifier_release(&state_verifier, mapping->record);
	return 0;
}

int driver_map(struct memtype_request *request)
{
	struct driver_mapping *mapping;
	int error = -EINVAL;

	mapping = kzalloc(sizeof(*mapping), GFP_KERNEL);
	if (!mapping)
		return -ENOMEM;
	mapping->call = driver_call(request->call);
	mapping->start = request->start;
	mapping->pages = request->pages;
	mutex_lock(&state_lock);
	if (mapping->call)
		error = mapping->call->possible(request);
	if (!error)
		error = driver_map_locked(request, mapping);
	mutex_unlock(&state_lock);
	if (!request->handle)
		kfree(mapping);
	return error;
}

static void driver_release_locked(struct driver_mapping *mapping)
{
	driver_unmap(mapping);
	if (mapping->record)
		verifier_release(&state_verifier, mapping->record);
	kfree(mapping);
}

int driver_release(u64 handle)
{
	struct driver_mapping *mapping;

	if (handle > INT_MAX)
		return -ENOENT;
	mutex_lock(&state_lock);
	mapping = idr_remove(&mappings, handle);
	if (mapping)
		driver_release_locked(mapping);
	mutex_unlock(&state_lock);
	return mapping ? 0 : -ENOENT;
}

int driver_read(u64 handle, struct memtype_page_table *table)
{
	struct driver_mapping *mapping;

	if (handle > INT_MAX)
		return -ENOENT;
	mutex_lock(&state_lock);
	mapping = idr_find(&mappings, handle);
	if (mapping)
		driver_read_page_table(mapping, table);
	mutex_unlock(&state_lock);
	return mapping ? 0 : -ENOENT;
}

int driver_allocate_ram(struct memtype_ram *ram)
{
	struct ram_block *block;
	void *address;

	if (!ram->pages || ram->pages > 1024)
		return -EINVAL;
	/* The guest needs the rest: out of memory, the kernel would kill the agent and panic. */
	if (atomic_long_add_return(ram->pages, &ram_pages) > totalram_pages() / 4)
		goto give_back;
	block = kzalloc(sizeof(*block), GFP_KERNEL);
	if (!block)
		goto give_back;
	/* Each page has a reference count of its own: vm_insert_page() refuses what has none. */
	address = alloc_pages_exact(ram->pages << PAGE_SHIFT, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN);
	if (!address) {
		kfree(block);
		goto give_back;
	}
	block->start = virt_to_phys(address);
	block->pages = ram->pages;
	ram->start = block->start;
	mutex_lock(&state_lock);
	list_add(&block->node, &ram_blocks);
	mutex_unlock(&state_lock);
	return 0;

give_back:
	atomic_long_sub(ram->pages, &ram_pages);
	return -ENOMEM;
}

/*
 * RAM that is not as it was, or that a process still maps, would be given to somebody who takes
 * it for his own and for write-back. The kernel's own callers of set_memory_wb() leak it then too
 * (drivers/char/agp/generic.c).
 */
static bool driver_can_be_freed(const struct ram_block *block)
{
	u64 first = block->start >> PAGE_SHIFT;

	return !block->spoilt && !user_mapping_of(first, first + block->pages - 1) &&
	       page_table_is_write_back((unsigned long)phys_to_virt(block->start), block->pages);
}

static void driver_free_block(struct ram_block *block)
{
	list_del(&block->node);
	if (driver_can_be_freed(block)) {
		atomic_long_sub(block->pages, &ram_pages);
		free_pages_exact(phys_to_virt(block->start), block->pages << PAGE_SHIFT);
	} else {
		kept_pages += block->pages;
		pr_notice("memtype: %llu pages of RAM at %#llx are kept: still mapped, or not write-back again\n",
			  block->pages, block->start);
	}
	kfree(block);
}

static int driver_free_ram_locked(struct memtype_request *request)
{
	struct verifier_verdict verdict = { .rule = VERIFIER_ACCEPTED };
	u64 first = request->start >> PAGE_SHIFT;
	struct ram_block *block;

	list_for_each_entry(block, &ram_blocks, node)
		if (block->start == request->start && block->pages == request->pages)
			break;
	if (list_entry_is_head(block, &ram_blocks, node))
		return -EINVAL;
	/* Whoever gets them next would share them with that process. */
	if (user_mapping_of(first, first + request->pages - 1))
		return -EBUSY;
	/* The direct map says it: of a type that the verifier has refused there is no record. */
	if (!page_table_is_write_back((unsigned long)phys_to_virt(request->start), request->pages))
		verdict = (struct verifier_verdict){
			.rule = VERIFIER_RAM_NOT_WB,
			.error = -EPERM,
		};
	state_fill_verdict(&request->verdict, &verdict);
	page_table_read((unsigned long)phys_to_virt(request->start), request->pages,
			&request->page_table);
	if (verdict.error && state_enforce)
		return 0;
	request->asked_kernel = 1;
	list_del(&block->node);
	atomic_long_sub(block->pages, &ram_pages);
	free_pages_exact(phys_to_virt(block->start), block->pages << PAGE_SHIFT);
	kfree(block);
	return 0;
}

int driver_free_ram(struct memtype_request *request)
{
	int error;

	mutex_lock(&state_lock);
	error = driver_free_ram_locked(request);
	mutex_unlock(&state_lock);
	return error;
}

int driver_statistics(struct memtype_statistics *statistics)
{
	mutex_lock(&state_lock);
	statistics->kept_pages = kept_pages;
	mutex_unlock(&state_lock);
	return 0;
}

void driver_release_all(void)
{
	struct driver_mapping *mapping;
	struct ram_block *block, *next;
	int handle;

	mutex_lock(&state_lock);
	idr_for_each_entry(&mappings, mapping, handle) {
		idr_remove(&mappings, handle);
		driver_release_locked(mapping);
	}
	list_for_each_entry_safe(block, next, &ram_blocks, node)
		driver_free_block(block);
	mutex_unlock(&state_lock);
}
