/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Kernel mappings, each with a handle, and RAM. */
#ifndef DRIVER_OPERATIONS_H
#define DRIVER_OPERATIONS_H

#include "memtype_uapi.h"

int driver_map(struct memtype_request *request);
int driver_release(u64 handle);
int driver_read(u64 handle, struct memtype_page_table *table);
int driver_allocate_ram(struct memtype_ram *ram);
/* One block of it, whatever type it has now, as a driver that forgets set_memory_wb(). */
int driver_free_ram(struct memtype_request *request);
/* RAM that can't be given back as it came is kept. */
void driver_release_all(void);
int driver_statistics(struct memtype_statistics *statistics);

#endif
