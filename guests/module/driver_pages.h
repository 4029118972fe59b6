/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* memremap_pages(): struct pages and a direct map for device memory, as of p2pdma and DAX. */
#ifndef DRIVER_PAGES_H
#define DRIVER_PAGES_H

#include "driver_mapping.h"
#include "memtype_uapi.h"

int driver_pages_possible(const struct memtype_request *request);
int driver_pages_map(const struct memtype_request *request, struct driver_mapping *mapping);
int driver_pages_unmap(const struct driver_mapping *mapping);

#endif
