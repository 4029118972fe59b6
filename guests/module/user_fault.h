/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Page frames that are inserted when they are touched. */
#ifndef USER_FAULT_H
#define USER_FAULT_H

#include <linux/mm.h>

/* One at a time. */
extern const struct vm_operations_struct user_fault_operations;
/* 2 MiB at a time, as vfio-pci does from 6.12 on. */
extern const struct vm_operations_struct user_fault_huge_operations;
/* 1 GiB at a time, else as the last. */
extern const struct vm_operations_struct user_fault_larger_operations;
/* One at a time, of any memory, also in a private mapping. */
extern const struct vm_operations_struct user_fault_mixed_operations;

#endif
