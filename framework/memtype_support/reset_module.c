/* SPDX-License-Identifier: MIT */
/* MEMTYPE_RESET of /dev/memtype, behind the agent's back: it would end its processes first. */
#include "tiny.h"

#include "../../guests/module/memtype_uapi.h"

void run(char **stack)
{
	long file = call(__NR_open, (long)"/dev/" MEMTYPE_DEVICE, O_RDWR, 0, 0, 0, 0);
	long result = call(__NR_ioctl, file, MEMTYPE_RESET, 0, 0, 0, 0);

	call(__NR_exit_group, result != 0, 0, 0, 0, 0, 0);
	__builtin_unreachable();
}
