// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What was mapped before the module was loaded, from the kernel's list: in the
 * verifier's records, and among the observations.
 *
 * It is counted with the type in the list: what it was asked for nobody knows
 * any more.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "arch_x86.h"
#include "observe.h"
#include "observe_probe.h"
#include "observe_seed.h"
#include "state.h"

#define MOST_SEEDS 65536
#define SEED_OWNER "before the module"

static bool observe_seed_release(struct verifier_record *record, void *data)
{
	if (record->observed)
		verifier_release(&state_verifier, record);
	return true;
}

static struct verifier_request observe_seed_request(const struct memtype_listed *range)
{
	return (struct verifier_request){
		.first = range->start >> PAGE_SHIFT,
		.pages = range->pages,
		.memtype = range->memtype,
		.observed = true,
	};
}

static bool observe_seed_sound(const struct memtype_listed *ranges, u32 count)
{
	struct verifier_verdict verdict;
	u32 n;

	for (n = 0; n < count; n++) {
		struct verifier_request request = observe_seed_request(&ranges[n]);

		verifier_check(&state_verifier, &request, &verdict);
		if (verdict.rule == VERIFIER_MALFORMED || request.memtype >= VERIFIER_MEMTYPES)
			return false;
	}
	return true;
}

static int observe_seed_add(const struct memtype_listed *range, const struct verifier_owner *owner)
{
	struct verifier_request request = observe_seed_request(range);
	struct memtype_observation what = {
		.start = range->start,
		.pages = range->pages,
		.requested = range->memtype,
		.granted = range->memtype,
		.seeded = true,
	};
	struct verifier_verdict verdict;

	request.owner = owner;
	verifier_check(&state_verifier, &request, &verdict);
	state_fill_verdict(&what.verdict, &verdict);
	observe_note(&what);
	return verifier_adopt(&state_verifier, &request) ? 0 : -ENOMEM;
}

/*
 * The user half reads the kernel's list and hands it in: the tree behind it is
 * static to arch/x86/mm/pat, its walker isn't exported, and reading a file
 * from inside the kernel would need the same text parsed here. Nothing can
 * slip between the list and the probes: these were there first, and the list
 * counts only if they saw nothing while it was read.
 */
int observe_seed(const struct memtype_seed *seed)
{
	const struct verifier_owner *owner;
	struct memtype_listed *ranges;
	u64 sequence;
	int error;
	u32 n;

	if (seed->count > MOST_SEEDS)
		return -EINVAL;
	ranges = kvcalloc(seed->count ?: 1, sizeof(*ranges), GFP_KERNEL);
	if (!ranges)
		return -ENOMEM;
	error = -EFAULT;
	if (copy_from_user(ranges, u64_to_user_ptr(seed->buffer), seed->count * sizeof(*ranges)))
		goto free;
	mutex_lock(&state_lock);
	/* What was seen so far is in the list as well; what is seen from here on may be not. */
	observe_bring_up_to_date(0);
	error = probe_sequence(&sequence);
	if (!error && sequence != seed->sequence)
		error = -EAGAIN;
	arch_x86_refresh();
	/* Those that are there are forgotten for a whole list alone. */
	if (!error && !observe_seed_sound(ranges, seed->count))
		error = -EINVAL;
	if (error)
		goto unlock;
	verifier_each(&state_verifier, 0, U64_MAX, observe_seed_release, NULL);
	observe_forget_all();
	owner = verifier_owner(&state_verifier, SEED_OWNER);
	error = owner ? 0 : -ENOMEM;
	for (n = 0; n < seed->count && !error; n++)
		error = observe_seed_add(&ranges[n], owner);
unlock:
	mutex_unlock(&state_lock);
free:
	kvfree(ranges);
	return error;
}
