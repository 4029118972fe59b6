/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Kernel mappings, each with a handle, and RAM. */
#ifndef DRIVER_OPERATIONS_H
#define DRIVER_OPERATIONS_H

#include "memtype_uapi.h"

int driver_map(struct memtype_request *request);
int driver_release(u64 handle);
int driver_read(u64 handle, struct memtype_page_table *table);
int driver_allocate_ram(struct memtype_ram *ram);
/* RAM that can't be given back as it came is kept. */
void driver_release_all(void);
int driver_statistics(struct memtype_statistics *statistics);

#endif
