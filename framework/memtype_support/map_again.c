/* SPDX-License-Identifier: MIT */
/*
 * Maps a page of a file and unmaps it, over and over: a process that is not the agent's.
 *
 *	map_again FILE OFFSET TIMES
 *
 * OFFSET is hexadecimal. With O_SYNC, which makes /dev/mem's UC- (drivers/char/mem.c).
 */
#include "tiny.h"

static long number_of(const char *text, int base)
{
	long number = 0;

	for (; *text; text++)
		number = number * base + (*text <= '9' ? *text - '0' : *text - 'a' + 10);
	return number;
}

void run(char **stack)
{
	long file = call(__NR_open, (long)stack[2], O_RDWR | O_SYNC, 0, 0, 0, 0);
	long offset = number_of(stack[3], 16), times = number_of(stack[4], 10), address;

	for (; file >= 0 && times; times--) {
		address = call(__NR_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, offset);
		/* Where the other has it with a type that won't do in place of this one. */
		if (address > -4096 && address < 0)
			continue;
		call(__NR_munmap, address, 4096, 0, 0, 0, 0);
	}
	call(__NR_exit_group, file < 0, 0, 0, 0, 0, 0);
	__builtin_unreachable();
}
