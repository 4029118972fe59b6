// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Walks the page tables the CPU uses, starting at CR3, rather than calling
 * lookup_address(): that one looks at init_mm only, and isn't exported.
 */
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <asm/io.h>
#include <asm/special_insns.h>

#include "page_table.h"

#define ENTRY_PRESENT BIT_ULL(0)
#define ENTRY_ACCESSED BIT_ULL(5)
#define ENTRY_DIRTY BIT_ULL(6)
#define ENTRY_LARGE BIT_ULL(7)
#define ENTRY_PROT_NONE BIT_ULL(8)
#define ENTRY_LARGE_PAT BIT_ULL(12)
#define ENTRY_ADDRESS GENMASK_ULL(51, 12)
/* What isn't address there: with AMD's SME or SEV one bit says that the page is encrypted. */
#define ENTRY_ENCRYPTED (ENTRY_ADDRESS & ~(u64)PTE_PFN_MASK)
#define CR4_FIVE_LEVELS BIT(12)

/*
 * A page with PROT_NONE: to the CPU its entry isn't present, and Linux, which has put bit 8 in the place
 * of that bit, keeps the page and its type there (_PAGE_PROTNONE, arch/x86/include/asm/pgtable_types.h).
 */
static bool page_table_hidden(u64 entry, unsigned long address, int level)
{
	return (entry & (ENTRY_PRESENT | ENTRY_PROT_NONE)) == ENTRY_PROT_NONE &&
	       address < TASK_SIZE_MAX && (level == 0 || (level <= 2 && entry & ENTRY_LARGE));
}

/*
 * The leaf entry for address, without the encryption bit; 0 when there is none. One that is hidden from
 * the CPU is one, too. shift is where the walk ended.
 */
static u64 page_table_walk(unsigned long address, unsigned int *shift)
{
	unsigned long cr4;
	u64 entry = __read_cr3() & ~ENTRY_ENCRYPTED;
	int level;

	asm volatile("mov %%cr4, %0" : "=r" (cr4));
	for (level = cr4 & CR4_FIVE_LEVELS ? 4 : 3; level >= 0; level--) {
		u64 *table = phys_to_virt(entry & ENTRY_ADDRESS);

		*shift = PAGE_SHIFT + 9 * level;
		entry = READ_ONCE(table[address >> *shift & 511]) & ~ENTRY_ENCRYPTED;
		if (!(entry & ENTRY_PRESENT))
			/* Linux inverts the address without that bit, which is clear when inverted again. */
			return page_table_hidden(entry, address, level) ? entry | ENTRY_ENCRYPTED : 0;
		if (level == 0 || (level <= 2 && entry & ENTRY_LARGE))
			return entry;
	}
	return 0;
}

/*
 * Likewise. A last table may be freed while whoever reads it holds the mmap lock, but not before an RCU
 * grace period has passed: from 6.6 on by khugepaged (retract_page_tables()), from 6.14 on by
 * madvise(MADV_DONTNEED) (CONFIG_PT_RECLAIM).
 */
static u64 page_table_entry(unsigned long address, unsigned int *shift)
{
	u64 entry;

	rcu_read_lock();
	entry = page_table_walk(address, shift);
	rcu_read_unlock();
	return entry;
}

/* Likewise, 0 for what the CPU doesn't see. */
static u64 page_table_leaf(unsigned long address, unsigned int *shift)
{
	u64 entry = page_table_entry(address, shift);

	return entry & ENTRY_PRESENT ? entry : 0;
}

u64 page_table_address(u64 entry, unsigned int shift)
{
	u64 page = ENTRY_ADDRESS & ~((1ULL << shift) - 1);

	return (entry & ENTRY_PRESENT ? entry : ~entry) & page;
}

/* An entry without the page it points to and without what the CPU writes into it. */
static u64 page_table_attributes(u64 entry, unsigned int shift)
{
	u64 page = ENTRY_ADDRESS & ~(shift > PAGE_SHIFT ? ENTRY_LARGE_PAT : 0);

	return entry & ~(page | ENTRY_ACCESSED | ENTRY_DIRTY);
}

bool page_table_maps(unsigned long address, u64 start, u64 pages)
{
	unsigned long end = address + pages * PAGE_SIZE;

	if (end < address)
		return false;
	while (address < end) {
		unsigned int shift;
		u64 entry = page_table_entry(address, &shift);
		unsigned long inside = (1UL << shift) - 1;
		u64 page = page_table_address(entry, shift);
		unsigned long next = min(end - 1, address | inside) + 1;

		if (!entry || (page | (address & inside)) != start)
			return false;
		start += next - address;
		address = next;
		cond_resched();
	}
	return true;
}

void page_table_read(unsigned long address, u64 pages, struct memtype_page_table *table)
{
	unsigned long end = address + pages * PAGE_SIZE;

	memset(table, 0, sizeof(*table));
	while (address < end) {
		struct memtype_run *run = table->count ? &table->runs[table->count - 1] : NULL;
		unsigned int shift;
		u64 entry = page_table_entry(address, &shift);
		/* Where nothing is mapped there is no telling how large a page would be. */
		unsigned int leaf_shift = entry ? shift : PAGE_SHIFT;
		/* A missing table is passed in one step: a process has 2^35 pages to ask for. */
		unsigned long next = min(end - 1, address | ((1UL << shift) - 1)) + 1;

		if (!run || run->shift != leaf_shift || !run->entry != !entry ||
		    page_table_attributes(run->entry, leaf_shift) !=
			    page_table_attributes(entry, leaf_shift)) {
			if (table->count == MEMTYPE_MAX_RUNS) {
				table->truncated = 1;
				return;
			}
			run = &table->runs[table->count++];
			run->entry = entry;
			run->shift = leaf_shift;
		}
		run->pages += (next - address) >> PAGE_SHIFT;
		address = next;
		cond_resched();
	}
}

bool page_table_is_write_back(unsigned long address, u64 pages)
{
	unsigned long end = address + pages * PAGE_SIZE;
	unsigned int shift;

	for (; address < end; address = (address | ((1UL << shift) - 1)) + 1) {
		u64 entry = page_table_leaf(address, &shift);
		u64 cache = _PAGE_PWT | _PAGE_PCD |
			    (shift > PAGE_SHIFT ? ENTRY_LARGE_PAT : _PAGE_PAT);

		/* The PAT's first slot is write-back in Linux: arch/x86/mm/pat/memtype.c, pat_bp_init(). */
		if (!entry || entry & cache)
			return false;
	}
	return true;
}
