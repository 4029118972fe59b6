/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Memory that a device reaches by DMA, in a process. */
#ifndef USER_DMA_H
#define USER_DMA_H

#include "memtype_uapi.h"

struct device;
struct vm_area_struct;

/* Is it one of the methods that map what dma_alloc_coherent() and dma_alloc_wc() give? */
bool user_dma_method(u32 map_method);
/* Maps all of a VMA, whose vm_pgoff is a page frame. Negative errno. */
int user_dma_map(struct device *device, struct vm_area_struct *vma, u32 map_method);

#endif
