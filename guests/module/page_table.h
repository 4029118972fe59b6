/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What the page tables of this CPU hold for a range of virtual addresses. */
#ifndef PAGE_TABLE_H
#define PAGE_TABLE_H

#include "memtype_uapi.h"

/*
 * The leaf entries of [address, address + 4 KiB * pages), neighbours that say
 * the same in one run. For user addresses the caller holds the mmap lock.
 */
void page_table_read(unsigned long address, u64 pages, struct memtype_page_table *table);

/* Are they all mapped, as pages of the kernel's are whose type nobody has changed? */
bool page_table_is_write_back(unsigned long address, u64 pages);

/* Whether the pages at address are those from the physical address start on. May sleep. */
bool page_table_maps(unsigned long address, u64 start, u64 pages);

#endif
