/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What a driver has got, and gives back one day. */
#ifndef DRIVER_MAPPING_H
#define DRIVER_MAPPING_H

#include <linux/mm.h>

#include "verifier.h"

struct dev_pagemap;
struct driver_call;

struct driver_mapping {
	const struct driver_call *call;
	u64 start;
	u64 pages;
	struct verifier_record *record;	/* NULL when the verifier refused, or wasn't asked */
	void *address;			/* NULL when nothing is mapped, only reserved */
	struct page **array;
	struct dev_pagemap *pagemap;
	int mtrr;
};

#endif
