/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Mappings that other drivers and other processes make: seen, not asked for. */
#ifndef OBSERVE_H
#define OBSERVE_H

#include <linux/types.h>

#include "memtype_uapi.h"

/* Attaches what probes it can. Without any, the verifier knows only what it was asked for. */
void observe_start(void);
void observe_stop(void);

/*
 * Brings the verifier's records up to date with everything seen so far. Takes state_lock. It waits for the
 * calls that are under way: -ETIMEDOUT when one of them doesn't end, -EINTR when the caller is killed.
 */
int observe_update(void);

int observe_status(struct memtype_observation_status *status);
int observe_list(struct memtype_observed *observed);

/* Stops the probes, or starts them again; what is mapped meanwhile is not seen. */
int observe_set_armed(const struct memtype_observe *observe);

/* Stops them for a measurement; what was asked of observe_set_armed() is so again afterwards. */
int observe_pause(void);
int observe_resume(void);

/* Forgets the observations that were recorded since seeding, and none of the records. */
void observe_forget(void);

/* The rest is for who holds state_lock. */

/*
 * Returns whether all that had returned by a moment of the probes' clock is in the records now: it
 * has to wait for calls under way that may come before it.
 */
bool observe_bring_up_to_date(u64 moment);

/* Adds an observation to the list, and forgets them all. */
void observe_note(const struct memtype_observation *what);
void observe_forget_all(void);

#endif
