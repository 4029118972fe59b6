// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The verifier's speed beside that of the kernel's own list: memtype_reserve()
 * and memtype_free(), with as many entries of the same shape in both. Rounds
 * of the two alternate, so that whatever else the host does hits both.
 *
 * Time is the TSC's, as it is: on a busy host Linux measures the rate of an
 * emulated one wrong, up to ten times ("tsc: PIT calibration deviates from
 * HPET"; 6.1), and its clocks with it.
 *
 * The addresses lie high above all memory and devices, where nobody maps
 * anything, and nothing is mapped there: only the books are kept.
 */
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <asm/memtype.h>
#include <asm/msr.h>

#include "arch_x86.h"
#include "benchmark.h"
#include "kernel_function.h"
#include "observe.h"
#include "state.h"

/* 256 GiB: below the end of what 40 bits can address, above all a guest has. */
#define FIRST_PFN (1ULL << (38 - PAGE_SHIFT))
#define MOST_RECORDS 100000
#define MOST_OPERATIONS 100000
#define OPERATIONS_AT_ONCE 1000

/* arch/x86/include/asm/memtype.h and arch/x86/mm/pat/memtype.c: neither is exported. 5.6 named them so. */
static struct {
	int (*reserve)(u64 start, u64 end, enum page_cache_mode wanted,
		       enum page_cache_mode *granted);
	int (*free)(u64 start, u64 end);
} kernel;

static int benchmark_find_kernel(void)
{
	return kernel_function_find("memtype_reserve", (void **)&kernel.reserve) ?:
	       kernel_function_find("memtype_free", (void **)&kernel.free);
}

/* The page of entry n. A free page lies behind each, unless all are one. */
static u64 benchmark_entry_pfn(const struct memtype_benchmark *wanted, u64 n)
{
	return FIRST_PFN + (wanted->overlapping ? 0 : 2 * n);
}

/*
 * Where operation n of a round works: on the page of all, or a free one between
 * others, each time another and in an order that no cache likes.
 */
static u64 benchmark_operation_pfn(const struct memtype_benchmark *wanted, u32 round, u32 n)
{
	u64 number = (u64)round * wanted->operations + n;

	/* Knuth's multiplicative hash. */
	return benchmark_entry_pfn(wanted, number * 2654435761ULL % wanted->records) +
	       !wanted->overlapping;
}

static struct verifier_request benchmark_request_for(u64 pfn, const struct verifier_owner *owner)
{
	return (struct verifier_request){
		.first = pfn,
		.pages = 1,
		.memtype = MEMTYPE_WC,
		.owner = owner,
	};
}

static u64 benchmark_time_checks(const struct memtype_benchmark *wanted, u32 round,
				 struct verifier *verifier, const struct verifier_owner *owner)
{
	struct verifier_verdict verdict;
	u64 start = rdtsc_ordered();
	u32 n;

	for (n = 0; n < wanted->operations; n++) {
		struct verifier_request request =
			benchmark_request_for(benchmark_operation_pfn(wanted, round, n), owner);

		mutex_lock(&state_lock);
		verifier_check(verifier, &request, &verdict);
		mutex_unlock(&state_lock);
	}
	return rdtsc_ordered() - start;
}

static u64 benchmark_time_tracks(const struct memtype_benchmark *wanted, u32 round,
				 struct verifier *verifier, const struct verifier_owner *owner)
{
	struct verifier_record *record;
	struct verifier_verdict verdict;
	u64 start = rdtsc_ordered();
	u32 n;

	for (n = 0; n < wanted->operations; n++) {
		struct verifier_request request =
			benchmark_request_for(benchmark_operation_pfn(wanted, round, n), owner);

		mutex_lock(&state_lock);
		record = verifier_track(verifier, &request, &verdict);
		mutex_unlock(&state_lock);
		if (!record)
			return 0;
		mutex_lock(&state_lock);
		verifier_release(verifier, record);
		mutex_unlock(&state_lock);
	}
	return rdtsc_ordered() - start;
}

static int __nocfi benchmark_reserve(u64 pfn)
{
	enum page_cache_mode granted;

	return kernel.reserve(pfn << PAGE_SHIFT, (pfn + 1) << PAGE_SHIFT, _PAGE_CACHE_MODE_WC,
			      &granted);
}

static int __nocfi benchmark_unreserve(u64 pfn)
{
	return kernel.free(pfn << PAGE_SHIFT, (pfn + 1) << PAGE_SHIFT);
}

/* Where entries overlap, the kernel looks at all of them for each. Others get the CPU between, unmeasured. */
static u64 benchmark_time_kernel(const struct memtype_benchmark *wanted, u32 round)
{
	u64 start = rdtsc_ordered(), pause;
	u32 n;

	for (n = 0; n < wanted->operations; n++) {
		u64 pfn = benchmark_operation_pfn(wanted, round, n);

		if (benchmark_reserve(pfn) || benchmark_unreserve(pfn) || fatal_signal_pending(current))
			return 0;
		if (n % OPERATIONS_AT_ONCE == OPERATIONS_AT_ONCE - 1) {
			pause = rdtsc_ordered();
			cond_resched();
			start += rdtsc_ordered() - pause;
		}
	}
	return rdtsc_ordered() - start;
}

static int benchmark_fill_verifier(const struct memtype_benchmark *wanted,
				   struct verifier *verifier, const struct verifier_owner *owner,
				   u32 *bytes)
{
	u32 n;

	for (n = 0; n < wanted->records; n++) {
		struct verifier_request request =
			benchmark_request_for(benchmark_entry_pfn(wanted, n), owner);
		struct verifier_record *record = verifier_adopt(verifier, &request);

		if (!record)
			return -ENOMEM;
		/* With what the allocator adds. */
		*bytes = ksize(record);
		cond_resched();
	}
	return 0;
}

static u32 benchmark_fill_kernel(const struct memtype_benchmark *wanted)
{
	u32 n;

	for (n = 0; n < wanted->records; n++) {
		if (fatal_signal_pending(current) || benchmark_reserve(benchmark_entry_pfn(wanted, n)))
			break;
		cond_resched();
	}
	return n;
}

static void benchmark_empty_kernel(const struct memtype_benchmark *wanted, u32 filled)
{
	while (filled--) {
		benchmark_unreserve(benchmark_entry_pfn(wanted, filled));
		cond_resched();
	}
}

static int benchmark_measure(struct memtype_benchmark *wanted, struct verifier *verifier)
{
	const struct verifier_owner *owner = verifier_owner(verifier, "benchmark");
	u32 filled = 0, round;
	int error;

	if (!owner)
		return -ENOMEM;
	error = benchmark_fill_verifier(wanted, verifier, owner, &wanted->bytes_per_record);
	if (error)
		return error;
	if (wanted->with_kernel) {
		error = benchmark_find_kernel();
		if (error)
			return error;
		filled = benchmark_fill_kernel(wanted);
		if (filled < wanted->records)
			error = -ENOMEM;
	}
	for (round = 0; !error && round < wanted->rounds; round++) {
		wanted->check_cycles[round] = benchmark_time_checks(wanted, round, verifier, owner);
		wanted->track_cycles[round] = benchmark_time_tracks(wanted, round, verifier, owner);
		if (wanted->with_kernel)
			wanted->kernel_cycles[round] = benchmark_time_kernel(wanted, round);
		if (!wanted->track_cycles[round] || (wanted->with_kernel && !wanted->kernel_cycles[round]))
			error = -EIO;
		cond_resched();
	}
	wanted->tsc = rdtsc_ordered();
	benchmark_empty_kernel(wanted, filled);
	return error;
}

int benchmark_run(struct memtype_benchmark *wanted)
{
	struct verifier verifier;
	int error;

	if (!wanted->records || wanted->records > MOST_RECORDS || !wanted->operations ||
	    wanted->operations > MOST_OPERATIONS || wanted->rounds > MEMTYPE_BENCHMARK_ROUNDS)
		return -EINVAL;
	mutex_lock(&state_lock);
	arch_x86_refresh();
	mutex_unlock(&state_lock);
	/* Watching the kernel's functions takes longer than they do. */
	error = observe_pause();
	if (error)
		return error;
	/* Of its own: the tests' records have nothing to do with it. */
	verifier_init(&verifier, &arch_x86);
	error = benchmark_measure(wanted, &verifier);
	verifier_destroy(&verifier);
	return observe_resume() ?: error;
}
