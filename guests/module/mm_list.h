/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The address spaces of all processes: where each one's page tables begin. */
#ifndef MM_LIST_H
#define MM_LIST_H

#include "memtype_uapi.h"

int mm_list_read(struct memtype_mm_list *list);

#endif
