/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Memory that belongs to system-management mode: the firmware's, which the CPU enters behind the
 * kernel's back.
 */
#ifndef SMRAM_H
#define SMRAM_H

#include <linux/types.h>

void smram_init(void);
void smram_exit(void);

#define SMRAM_NONE U32_MAX

/*
 * A bit for each memory type that may be asked for so that all of [first, last] that is SMRAM has,
 * together with the MTRRs, the type SMM uses. SMRAM_NONE where no page is SMRAM, or the chipset
 * isn't one whose registers we know.
 */
u32 smram_memtypes(u64 first, u64 last);

#endif
