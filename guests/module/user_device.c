// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See user_device.h: the page tables say it, since vm_pgoff means to a driver what it likes. */
#include <linux/mm.h>
#include <linux/sched.h>
#include <asm/msr.h>

#include "page_table.h"
#include "user_device.h"

/* What the PAT register gives an entry: its bits are a number of three digits. */
static u32 user_device_memtype(u64 entry, unsigned int shift)
{
	u64 pat_bit = shift > PAGE_SHIFT ? BIT_ULL(12) : BIT_ULL(7);
	unsigned int slot = (entry & _PAGE_PWT ? 1 : 0) | (entry & _PAGE_PCD ? 2 : 0) |
			    (entry & pat_bit ? 4 : 0);
	u64 pat = native_read_msr(MSR_IA32_CR_PAT);

	return pat >> 8 * slot & 7;
}

static int user_device_look(struct memtype_address *range)
{
	const struct memtype_run *run = &range->page_table.runs[0];
	u64 inside = (1ULL << run->shift) - 1;
	unsigned int n;

	for (n = 0; n < range->page_table.count; n++) {
		const struct memtype_run *other = &range->page_table.runs[n];

		if (!other->entry)
			return -ENODATA;
		if (user_device_memtype(other->entry, other->shift) !=
		    user_device_memtype(run->entry, run->shift))
			return -EXDEV;
	}
	range->memtype = user_device_memtype(run->entry, run->shift);
	range->start = page_table_address(run->entry, run->shift) | (range->address & inside);
	if (!page_table_maps(range->address, range->start, range->pages))
		return -EXDEV;
	return 0;
}

int user_device_mapped(struct memtype_address *range)
{
	u64 end = range->address + range->pages * PAGE_SIZE;
	int error;

	if (offset_in_page(range->address) || !range->pages || range->pages > U32_MAX ||
	    range->address >= TASK_SIZE || end > TASK_SIZE)
		return -EINVAL;
	mmap_write_lock(current->mm);
	page_table_read(range->address, range->pages, &range->page_table);
	error = range->page_table.truncated ? -EXDEV : user_device_look(range);
	mmap_write_unlock(current->mm);
	return error;
}
