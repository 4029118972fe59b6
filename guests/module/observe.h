/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Mappings that other drivers and other processes make: seen, not asked for. */
#ifndef OBSERVE_H
#define OBSERVE_H

#include "memtype_uapi.h"

/* Attaches what probes it can. Without any, the verifier knows only what it was asked for. */
void observe_start(void);
void observe_stop(void);

/* Brings the verifier's records up to date with everything seen so far. Takes state_lock. */
void observe_update(void);

/* Counts what was mapped before the probes were there. EAGAIN: something was mapped meanwhile. */
int observe_seed(const struct memtype_seed *seed);

int observe_status(struct memtype_observation_status *status);
int observe_list(struct memtype_observed *observed);

/* Stops the probes, or starts them again; what is mapped meanwhile is not seen. */
int observe_set_armed(const struct memtype_observe *observe);

/* Stops them for a measurement; what was asked of observe_set_armed() is so again afterwards. */
int observe_pause(void);
int observe_resume(void);

/* Forgets the observations that were recorded since seeding, and none of the records. */
void observe_forget(void);

#endif
