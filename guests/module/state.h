/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What the files of the module share: one verifier, one lock, one policy. */
#ifndef STATE_H
#define STATE_H

#include <linux/mm.h>
#include <linux/mutex.h>

#include "memtype_uapi.h"
#include "verifier.h"

/*
 * Guards the verifier and the handles. Taken inside the mmap lock, which
 * vm_operations hold when they call: never touch user memory under it.
 */
extern struct mutex state_lock;
extern struct verifier state_verifier;
extern bool state_enforce;

/* What the verifier says, as user space is told. */
void state_fill_record(struct memtype_record *to, const struct verifier_record *from);
void state_fill_verdict(struct memtype_verdict *to, const struct verifier_verdict *from);

#endif
