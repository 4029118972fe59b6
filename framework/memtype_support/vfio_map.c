/* SPDX-License-Identifier: MIT */
/*
 * Maps a BAR of a device that vfio-pci has, touches it, and keeps it until it is killed.
 *
 *	vfio_map /dev/vfio/GROUP 0000:00:02.0 BAR
 *
 * Prints one line: the page-table entry of the first page, its shift, and the pages that are alike; or the step
 * that failed, and the errno.
 */
#include "tiny.h"

#include <linux/vfio.h>

#include "../../guests/module/memtype_uapi.h"

/* As large pages want it. */
#define PLACE (1UL << 40)

static void put_number(unsigned long number, char after)
{
	char digits[17];
	int n;

	for (n = 15; n >= 0; n--, number >>= 4)
		digits[n] = "0123456789abcdef"[number & 15];
	digits[16] = after;
	call(__NR_write, 1, (long)digits, sizeof(digits), 0, 0, 0);
}

static long check(char step, long result)
{
	if (result >= 0)
		return result;
	call(__NR_write, 1, (long)&step, 1, 0, 0, 0);
	put_number(-result, '\n');
	call(__NR_exit_group, 1, 0, 0, 0, 0, 0);
	__builtin_unreachable();
}

static long open_file(char step, const char *path)
{
	return check(step, call(__NR_open, (long)path, O_RDWR, 0, 0, 0, 0));
}

static long control(char step, long file, long request, const void *argument)
{
	return check(step, call(__NR_ioctl, file, request, (long)argument, 0, 0, 0));
}

void run(char **stack)
{
	struct vfio_region_info region = { .argsz = sizeof(region), .index = stack[4][0] - '0' };
	struct memtype_address range;
	long container = open_file('c', "/dev/vfio/vfio"), group = open_file('g', stack[2]), device;
	int number = container;
	unsigned int n;

	control('s', group, VFIO_GROUP_SET_CONTAINER, &number);
	control('i', container, VFIO_SET_IOMMU, (void *)VFIO_TYPE1_IOMMU);
	device = control('d', group, VFIO_GROUP_GET_DEVICE_FD, stack[3]);
	control('r', device, VFIO_DEVICE_GET_REGION_INFO, &region);
	/* clang would call memset(). */
	for (n = 0; n < sizeof(range); n++)
		((volatile char *)&range)[n] = 0;
	range.pages = region.size / 4096;
	range.address = check('m', call(__NR_mmap, PLACE, region.size, PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_FIXED, device, region.offset));
	*(volatile unsigned int *)range.address;
	control('p', open_file('a', "/dev/memtype"), MEMTYPE_READ_PAGE_TABLE, &range);
	put_number(range.page_table.runs[0].entry, ' ');
	put_number(range.page_table.runs[0].shift, ' ');
	put_number(range.page_table.runs[0].pages, '\n');
	call(__NR_pause, 0, 0, 0, 0, 0, 0);
	__builtin_unreachable();
}
