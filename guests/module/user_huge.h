/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Page frames that are inserted 2 MiB at a time when they are touched, as vfio-pci does from 6.12 on. */
#ifndef USER_HUGE_H
#define USER_HUGE_H

#include <linux/mm.h>

extern const struct vm_operations_struct user_huge_operations;

#endif
