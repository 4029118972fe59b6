// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * See user_dma.h. Of a device without an IOMMU, as ours is, the address for DMA is the physical one, and
 * the memory that begins at DMA address 0 is all that there is. The CPU's address is looked at only for a
 * device with memory of its own (kernel/dma/direct.c, dma_direct_mmap(), 5.10 to 7.3), and where the
 * machine has DMA operations of its own (AMD's GART, Xen).
 */
#include <linux/dma-mapping.h>
#include <linux/mm.h>

#include "user_dma.h"

bool user_dma_method(u32 map_method)
{
	return map_method == MEMTYPE_METHOD_DMA_COHERENT || map_method == MEMTYPE_METHOD_DMA_WC;
}

int user_dma_map(struct device *device, struct vm_area_struct *vma, u32 map_method)
{
	u64 end = (u64)vma->vm_pgoff + vma_pages(vma);

	if (end > SIZE_MAX >> PAGE_SHIFT)
		return -EINVAL;
	if (map_method == MEMTYPE_METHOD_DMA_WC)
		return dma_mmap_wc(device, vma, phys_to_virt(0), 0, end << PAGE_SHIFT);
	return dma_mmap_coherent(device, vma, phys_to_virt(0), 0, end << PAGE_SHIFT);
}
