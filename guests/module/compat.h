/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What differs between the kernels this module is built for, with the version that made it so. */
#ifndef COMPAT_H
#define COMPAT_H

#include <linux/fs.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/version.h>
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#include <linux/pfn_t.h>
#endif

/* 6.16 let a file say what is to be mapped, instead of mapping it. */
static inline const void *compat_mmap_handler(const struct file_operations *operations)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
	if (operations->mmap_prepare)
		return operations->mmap_prepare;
#endif
	return operations->mmap;
}

/* 6.17 did away with pfn_t, which said what kind of frame it is. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
#define COMPAT_FRAME(frame) (frame)
#else
#define COMPAT_FRAME(frame) pfn_to_pfn_t(frame)
#endif

static inline vm_fault_t compat_insert_pfn_pmd(struct vm_fault *fault, unsigned long frame)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	return vmf_insert_pfn_pmd(fault, COMPAT_FRAME(frame), fault->flags & FAULT_FLAG_WRITE);
#else
	/* It is declared, and nowhere defined, as with PREEMPT_RT. */
	return VM_FAULT_FALLBACK;
#endif
}

/* 5.10 to 7.3 have it for processors whose entries of 1 GiB can be so, as those of x86-64. */
static inline vm_fault_t compat_insert_pfn_pud(struct vm_fault *fault, unsigned long frame)
{
#if defined(CONFIG_TRANSPARENT_HUGEPAGE) && defined(CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD)
	return vmf_insert_pfn_pud(fault, COMPAT_FRAME(frame), fault->flags & FAULT_FLAG_WRITE);
#else
	return VM_FAULT_FALLBACK;
#endif
}

static inline vm_fault_t compat_insert_mixed(struct vm_fault *fault)
{
	return vmf_insert_mixed(fault->vma, fault->address, COMPAT_FRAME(fault->pgoff));
}

/* 6.6 says as an order how large a page is wanted. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define COMPAT_FAULT_SIZE unsigned int
#define COMPAT_FAULT_PMD (PMD_SHIFT - PAGE_SHIFT)
#define COMPAT_FAULT_PUD (PUD_SHIFT - PAGE_SHIFT)
#else
#define COMPAT_FAULT_SIZE enum page_entry_size
#define COMPAT_FAULT_PMD PE_SIZE_PMD
#define COMPAT_FAULT_PUD PE_SIZE_PUD
#endif

/* 6.15 made ioremap_prot() take a pgprot_t instead of its bits. */
static inline void __iomem *compat_ioremap_prot(resource_size_t start, unsigned long size,
						pgprot_t prot)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
	return ioremap_prot(start, size, prot);
#else
	return ioremap_prot(start, size, pgprot_val(prot));
#endif
}

/* 6.3 made vm_flags read-only, so that nobody changes them without the VMA's lock. */
static inline void compat_vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_set(vma, flags);
#else
	vma->vm_flags |= flags;
#endif
}

/*
 * 6.4 let page faults go without the mmap lock, by one of the VMA's own. The mmap lock is held
 * for writing.
 */
static inline void compat_vma_start_write(struct vm_area_struct *vma)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	vma_start_write(vma);
#endif
}

#endif
