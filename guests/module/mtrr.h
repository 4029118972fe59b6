/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The MTRRs of a CPU, as read from it. */
#ifndef MTRR_H
#define MTRR_H

#include "memtype_uapi.h"

/* Reads what only firmware writes, once. Before all else. */
void mtrr_init(void);

/* What the MTRRs say about a range. */
struct mtrr_summary {
	u32 types;		/* a bit for each encoding found */
	bool undefined;		/* an overlap the manuals leave undefined */
	bool splits_large_page;	/* two types within one large page of the range */
};

/* Reads registers->cpu's. Returns 0 or a negative errno: that CPU may be turned off. */
int mtrr_read(struct memtype_registers *registers);

/* Reads those of the CPU that this runs on, which is there. */
void mtrr_read_here(struct memtype_registers *registers);

/* Intel SDM, "MTRR Precedences", with SMRR outside SMM and AMD's TOP_MEM2, for the bytes [first, last]. */
struct mtrr_summary mtrr_summarise(const struct memtype_registers *registers, u64 first, u64 last);

#endif
