/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Failures on demand: a function of the kernel returns without having run. */
#ifndef FAULT_H
#define FAULT_H

#include "memtype_uapi.h"

int fault_arm(struct memtype_fault *fault);
int fault_read(struct memtype_fault *fault);
int fault_disarm(u64 handle);
void fault_disarm_all(void);

#endif
