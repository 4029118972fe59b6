/* SPDX-License-Identifier: MIT */
/*
 * Hands the module a list of mappings whose second is no range of any memory. Ends with 0 when that is refused
 * as an invalid argument.
 */
#include <asm/errno.h>

#include "tiny.h"

#include "../../guests/module/memtype_uapi.h"

#define TRIES 100

void run(char **stack)
{
	struct memtype_listed ranges[2] = {
		{ .start = 0xfd000000, .pages = 1, .memtype = 1 },
		{ .start = 0xfd001000, .pages = 0, .memtype = 1 },
	};
	struct memtype_observation_status status;
	struct memtype_seed seed = { .buffer = (unsigned long)ranges, .count = 2 };
	long file = call(__NR_open, (long)"/dev/memtype", O_RDWR, 0, 0, 0, 0), error = -EAGAIN;
	int n;

	/* Others may map something between. */
	for (n = 0; error == -EAGAIN && n < TRIES; n++) {
		error = call(__NR_ioctl, file, MEMTYPE_OBSERVATION, (long)&status, 0, 0, 0);
		if (error)
			break;
		seed.sequence = status.sequence;
		error = call(__NR_ioctl, file, MEMTYPE_SEED, (long)&seed, 0, 0, 0);
	}
	call(__NR_exit_group, error == -EINVAL ? 0 : 1, 0, 0, 0, 0, 0);
	__builtin_unreachable();
}
