// SPDX-License-Identifier: MIT
/*
 * What one operation of the verifier costs in user space, as a JSON array on
 * stdout. The machine's answers cost nothing here and the tree is a treap, so
 * that the growth with the number of mappings is what compares with a kernel.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "verifier.h"

#define MEMTYPE 1
#define PAGES 4
#define OPERATIONS 100000
#define ROUNDS 5

static u64 benchmark_last_pfn(void)
{
	return (1ULL << 40) - 1;
}

static bool benchmark_possible(unsigned int memtype)
{
	return true;
}

static bool benchmark_any_ram(u64 first, u64 last)
{
	return false;
}

static unsigned int benchmark_hazards(u64 first, u64 last, unsigned int memtype)
{
	return 0;
}

static const struct verifier_arch arch = {
	.last_pfn = benchmark_last_pfn,
	.possible = benchmark_possible,
	.any_ram = benchmark_any_ram,
	.hazards = benchmark_hazards,
};

static u64 seed = 88172645463325252ULL;

/* Xorshift, by Marsaglia. */
static u64 benchmark_random_below(u64 limit)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % limit;
}

/* Of this thread alone: others may be using the host. */
static double benchmark_nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

static struct verifier_request benchmark_request_at(u64 first, const struct verifier_owner *owner)
{
	return (struct verifier_request){
		.first = first,
		.pages = PAGES,
		.memtype = MEMTYPE,
		.owner = owner,
	};
}

/* Between two mappings where they are disjoint, on top of all of them where they overlap. */
static double benchmark_round_of(struct verifier *verifier, u64 mappings, bool overlapping,
				 bool track)
{
	const struct verifier_owner *owner = verifier_owner(verifier, "benchmark");
	struct verifier_verdict verdict;
	struct verifier_record *record;
	double start = benchmark_nanoseconds();
	unsigned int i;

	for (i = 0; i < OPERATIONS; i++) {
		u64 first = overlapping ? 0 : benchmark_random_below(mappings) * 2 * PAGES + PAGES;
		struct verifier_request request = benchmark_request_at(first, owner);

		if (track) {
			record = verifier_track(verifier, &request, &verdict);
			if (!record)
				abort();
			verifier_release(verifier, record);
		} else {
			verifier_check(verifier, &request, &verdict);
			if (verdict.error)
				abort();
		}
	}
	return (benchmark_nanoseconds() - start) / OPERATIONS;
}

static int benchmark_ascending(const void *a, const void *b)
{
	return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double benchmark_median(struct verifier *verifier, u64 mappings, bool overlapping,
			       bool track)
{
	double rounds[ROUNDS];
	unsigned int i;

	for (i = 0; i < ROUNDS; i++)
		rounds[i] = benchmark_round_of(verifier, mappings, overlapping, track);
	qsort(rounds, ROUNDS, sizeof(rounds[0]), benchmark_ascending);
	return rounds[ROUNDS / 2];
}

static void benchmark_measure(u64 mappings, bool overlapping, const char *separator)
{
	struct verifier verifier;
	struct verifier_request request;
	u64 i;

	verifier_init(&verifier, &arch);
	for (i = 0; i < mappings; i++) {
		request = benchmark_request_at(overlapping ? 0 : i * 2 * PAGES,
					       verifier_owner(&verifier, "benchmark"));
		if (!verifier_adopt(&verifier, &request))
			abort();
	}
	printf("%s{\"mappings\": %llu, \"overlapping\": %s, \"check_ns\": %.1f, \"track_release_ns\": %.1f}",
	       separator, (unsigned long long)mappings, overlapping ? "true" : "false",
	       benchmark_median(&verifier, mappings, overlapping, false),
	       benchmark_median(&verifier, mappings, overlapping, true));
	verifier_destroy(&verifier);
}

int main(void)
{
	u64 mappings;

	printf("[");
	for (mappings = 10; mappings <= 100000; mappings *= 10) {
		benchmark_measure(mappings, false, mappings == 10 ? "" : ",\n ");
		benchmark_measure(mappings, true, ",\n ");
	}
	printf("]\n");
	return 0;
}
