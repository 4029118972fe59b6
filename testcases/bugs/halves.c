// SPDX-License-Identifier: (GPL-2.0 OR MIT)
/*
 * /dev/halves: the two halves of what is mapped are two pieces of memory, as hfi1 fills a mapping with several
 * buffers. For test_pieces_of_one_mapping.py.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>

static unsigned long first, second;
static bool moved = true;
static unsigned long ram[2];
module_param(first, ulong, 0);
module_param(second, ulong, 0);
module_param(moved, bool, 0);

static int halves_mmap(struct file *file, struct vm_area_struct *vma)
{
	const unsigned long start = vma->vm_start, end = vma->vm_end, half = (end - start) / 2;
	int error;

	/* Two pages of each piece; another error than the bug's. */
	if (end - start != 4 * PAGE_SIZE)
		return -ENXIO;
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	if (moved)
		vma->vm_end = start + half;
	error = remap_pfn_range(vma, start, first >> PAGE_SHIFT, half, vma->vm_page_prot);
	if (!error) {
		if (moved) {
			vma->vm_start = start + half;
			vma->vm_end = end;
		}
		error = remap_pfn_range(vma, start + half, second >> PAGE_SHIFT, half, vma->vm_page_prot);
	}
	vma->vm_start = start;
	vma->vm_end = end;
	return error;
}

static const struct file_operations halves_operations = { .owner = THIS_MODULE, .mmap = halves_mmap };

static struct miscdevice halves_node = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "halves",
	.fops = &halves_operations,
};

static int __init halves_init(void)
{
	int error;

	if (!first) {
		ram[0] = __get_free_pages(GFP_KERNEL | __GFP_ZERO, 1);
		ram[1] = __get_free_pages(GFP_KERNEL | __GFP_ZERO, 1);
		if (!ram[0] || !ram[1]) {
			error = -ENOMEM;
			goto out;
		}
		first = virt_to_phys((void *)ram[0]);
		second = virt_to_phys((void *)ram[1]);
	}
	error = misc_register(&halves_node);
	if (!error)
		return 0;
out:
	free_pages(ram[0], 1);
	free_pages(ram[1], 1);
	return error;
}
module_init(halves_init);

static void __exit halves_exit(void)
{
	misc_deregister(&halves_node);
	free_pages(ram[0], 1);
	free_pages(ram[1], 1);
}
module_exit(halves_exit);
MODULE_DESCRIPTION("Two pieces of memory in one mapping");
MODULE_LICENSE("GPL");
