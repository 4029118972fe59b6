/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The functions of the kernel through which a driver gets memory of a type. */
#ifndef DRIVER_CALLS_H
#define DRIVER_CALLS_H

#include <linux/mm.h>

#include "driver_mapping.h"
#include "memtype_uapi.h"

struct driver_call {
	/* 0; -EINVAL: no such function for the type; -ENXIO: no direct map. */
	int (*possible)(const struct memtype_request *request);
	/* Returns the kernel's own answer: 0 or a negative errno. */
	int (*map)(const struct memtype_request *request, struct driver_mapping *mapping);
	/* Returns 0 or a negative errno: then the pages may have kept their type. */
	int (*unmap)(const struct driver_mapping *mapping);
	/* Is a type asked for that the verifier judges and counts? */
	bool judged;
};

/* NULL when there is no such call. */
const struct driver_call *driver_call(u32 number);

#endif
