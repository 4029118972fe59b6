/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Mappings that are older than the probes. */
#ifndef OBSERVE_SEED_H
#define OBSERVE_SEED_H

#include "memtype_uapi.h"

/* Counts what was mapped before the probes were there. EAGAIN: something was mapped meanwhile. */
int observe_seed(const struct memtype_seed *seed);

#endif
