/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The address spaces of all processes: where each one's page tables begin. */
#ifndef SPACES_H
#define SPACES_H

#include "memtype_uapi.h"

int spaces_list(struct memtype_spaces *spaces);

#endif
