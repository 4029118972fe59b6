/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The verifier's speed beside the kernel's. */
#ifndef BENCHMARK_H
#define BENCHMARK_H

#include "memtype_uapi.h"

/* -EOPNOTSUPP on a CPU where the kernel's functions can't be called from here. */
int benchmark_run(struct memtype_benchmark *wanted);

#endif
