/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What the page tables of this CPU hold for a range of virtual addresses. */
#ifndef PAGE_TABLE_H
#define PAGE_TABLE_H

#include "memtype_uapi.h"

/*
 * The leaf entries of [address, address + 4 KiB * pages), neighbours that say
 * the same in one run. For user addresses the caller holds the mmap lock for
 * writing: munmap() frees tables with it held for reading (5.10 to 7.3), which
 * who looks up no VMA would read all the same. A run counts its pages in 32
 * bits, so the caller asks for no more.
 * Entries of pages with PROT_NONE are among them, as they are.
 */
void page_table_read(unsigned long address, u64 pages, struct memtype_page_table *table);

/* Are they all mapped, as pages of the kernel's are whose type nobody has changed? */
bool page_table_is_write_back(unsigned long address, u64 pages);

/*
 * The physical address in a leaf entry. In one with PROT_NONE it is inverted, so that a CPU with the
 * L1TF bug reads no memory ahead of its time (arch/x86/include/asm/pgtable-invert.h, 5.10 to 7.3: with
 * every CPU).
 */
u64 page_table_address(u64 entry, unsigned int shift);

/*
 * Whether the pages at address, with PROT_NONE or not, are those from the physical address start on.
 * May sleep.
 */
bool page_table_maps(unsigned long address, u64 start, u64 pages);

#endif
