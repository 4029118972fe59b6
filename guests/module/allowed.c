// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * On a machine that isn't ours to destroy only the memory that its owner has
 * named may be touched, and RAM never. Whoever asks, and whatever the user half
 * or the host believe: this is where it is refused.
 *
 * Without the parameter nothing is allowed, so that nobody who forgets it does
 * harm. In a guest of our own it is "all".
 */
#include <linux/errno.h>
#include <linux/ioport.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "allowed.h"
#include "memtype_uapi.h"

#define MOST_RANGES 32

static char *allowed = "none";
module_param(allowed, charp, 0444);
MODULE_PARM_DESC(allowed,
		 "physical memory that tests may use: all, none (default), or a list such as 0xfd000000-0xfdffffff,0xe0000000-0xe0ffffff");

static struct {
	u64 first;
	u64 last;
} ranges[MOST_RANGES];
static unsigned int count;
static bool everything;

static bool allowed_has_ram(u64 start, u64 size)
{
	return region_intersects(start, size, IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) !=
	       REGION_DISJOINT;
}

static int allowed_add_range(char *text)
{
	char *end = text, *start = strsep(&end, "-");
	u64 first, last;

	if (!end || kstrtou64(start, 0, &first) || kstrtou64(end, 0, &last)) {
		pr_err("memtype: allowed: this is no range: write it like 0xfd000000-0xfdffffff\n");
		return -EINVAL;
	}
	if (last < first || last == U64_MAX || offset_in_page(first) || offset_in_page(last + 1)) {
		pr_err("memtype: allowed: %#llx-%#llx are not whole pages\n", first, last);
		return -EINVAL;
	}
	if (allowed_has_ram(first, last - first + 1)) {
		pr_err("memtype: allowed: there is RAM in %#llx-%#llx\n", first, last);
		return -EPERM;
	}
	if (count == MOST_RANGES) {
		pr_err("memtype: allowed: more than %d ranges\n", MOST_RANGES);
		return -E2BIG;
	}
	ranges[count].first = first;
	ranges[count++].last = last;
	return 0;
}

int allowed_init(void)
{
	char *copy, *rest, *text;
	int error = 0;

	everything = !strcmp(allowed, "all");
	if (everything || !strcmp(allowed, "none"))
		return 0;
	copy = kstrdup(allowed, GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	for (rest = copy; !error && (text = strsep(&rest, ","));)
		error = allowed_add_range(text);
	kfree(copy);
	return error;
}

bool allowed_everything(void)
{
	return everything;
}

bool allowed_range(u64 start, u64 pages)
{
	unsigned int n;

	if (everything)
		return true;
	if (!pages || pages > U64_MAX >> PAGE_SHIFT)
		return false;
	for (n = 0; n < count; n++)
		if (start >= ranges[n].first && start <= ranges[n].last &&
		    (pages << PAGE_SHIFT) - 1 <= ranges[n].last - start)
			/* Asked each time: memory can be plugged in. */
			return !allowed_has_ram(start, pages << PAGE_SHIFT);
	return false;
}

static bool allowed_prepare(const struct memtype_prepare *next)
{
	u32 n;

	for (n = 0; n < next->piece_count && n < MEMTYPE_MOST_PIECES; n++)
		if (!allowed_range(next->pieces[n].start, next->pieces[n].pages))
			return false;
	return next->piece_count || allowed_range(next->request.start, next->request.pages);
}

bool allowed_command(unsigned int command, const void *argument)
{
	const struct memtype_prepare *next = argument;
	const struct memtype_request *request = argument;
	const struct memtype_range *range = argument;

	switch (command) {
	case MEMTYPE_MAP:
		return allowed_range(request->start, request->pages);
	case MEMTYPE_PREPARE:
		return allowed_prepare(next);
	case MEMTYPE_ZAP:
	case MEMTYPE_MAY_USE:
		return allowed_range(range->start, range->pages);
	/*
	 * RAM is the owner's; the benchmark fills the kernel's own list, with addresses that
	 * nobody has named; and what a function of the kernel leaves behind that is told to
	 * fail, or called out of its turn, nobody can foresee. The kernel's own page tables may be
	 * freed while they are read, by ioremap() and vmap() of a large page over an empty table, and
	 * by set_memory(), which makes a large page of many (6.15 and later).
	 */
	case MEMTYPE_ALLOCATE_RAM:
	case MEMTYPE_FREE_RAM:
	case MEMTYPE_BENCHMARK:
	case MEMTYPE_FAULT:
	case MEMTYPE_KERNEL_CALL:
	case MEMTYPE_KERNEL_PAGES:
		return everything;
	/* Books are kept, registers and page tables read. Nothing is mapped. */
	default:
		return true;
	}
}
