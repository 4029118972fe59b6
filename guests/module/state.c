// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See state.h. */
#include <linux/kernel.h>
#include <linux/string.h>

#include "state.h"

/* See state.h: of the verifier, the handles and the policy. */
DEFINE_MUTEX(state_lock);
struct verifier state_verifier;
bool state_enforce;

void state_fill_record(struct memtype_record *to, const struct verifier_record *from)
{
	*to = (struct memtype_record){
		.start = from->first << PAGE_SHIFT,
		.pages = from->last - from->first + 1,
		.address = from->address,
		.memtype = from->memtype,
		.kind = from->space ? MEMTYPE_USER : MEMTYPE_KERNEL,
		.pid = from->pid,
		.observed = from->observed,
	};
	strscpy(to->owner, from->owner->name, sizeof(to->owner));
}

void state_fill_verdict(struct memtype_verdict *to, const struct verifier_verdict *from)
{
	static const u32 rules[] = {
		[VERIFIER_ACCEPTED] = MEMTYPE_RULE_NONE,
		[VERIFIER_MALFORMED] = MEMTYPE_RULE_MALFORMED,
		[VERIFIER_IMPOSSIBLE] = MEMTYPE_RULE_IMPOSSIBLE,
		[VERIFIER_RAM_NOT_WB] = MEMTYPE_RULE_RAM_NOT_WB,
		[VERIFIER_ALIAS] = MEMTYPE_RULE_ALIAS,
		[VERIFIER_EXCLUSIVE] = MEMTYPE_RULE_EXCLUSIVE,
		[VERIFIER_FIRMWARE] = MEMTYPE_RULE_SMRAM,
	};

	*to = (struct memtype_verdict){
		.rule = rules[from->rule],
		.error = -from->error,
		.hazards = from->hazards,
		.has_conflict = !!from->conflict,
	};
	if (from->conflict)
		state_fill_record(&to->conflict, from->conflict);
}
