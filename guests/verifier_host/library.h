/* SPDX-License-Identifier: MIT */
/*
 * guests/module/verifier.c as a library of user space: one verifier, on a
 * machine that the caller describes. Plain numbers go in and out, so that this
 * file, less its lines with a #, is also what cffi reads.
 */
#ifndef LIBRARY_H
#define LIBRARY_H

#include <stdint.h>

/* What the verifier asks of an architecture. Types are numbers below 8. */
struct library_machine {
	uint64_t last_pfn;
	uint32_t possible; /* bit mask of types */
	uint32_t one_ioremap;
	uint64_t ram_first;
	uint64_t ram_pages;
	uint32_t ram_memtype;
	uint32_t default_memtype; /* of what is not RAM */
	uint64_t firmware_first;
	uint64_t firmware_pages;
	uint32_t firmware_memtypes; /* bit mask of those that may be asked for */
};

struct library_request {
	uint64_t first;
	uint64_t pages;
	uint64_t space; /* 0 is the kernel's */
	uint64_t address;
	uint32_t memtype;
	int32_t pid;
};

struct library_record {
	uint64_t handle;
	uint64_t first;
	uint64_t last;
	uint64_t space;
	uint64_t address;
	uint32_t memtype;
	int32_t pid;
	char owner[32];
};

struct library_verdict {
	uint32_t rule; /* enum verifier_rule */
	int32_t error;
	uint32_t hazards;
	uint32_t has_conflict;
	struct library_record conflict;
};

struct library_lookup {
	int32_t error;
	uint32_t memtype;
	uint32_t in_use;
};

void library_start(const struct library_machine *machine);

/* Returns how many allocations were left behind. */
uint64_t library_stop(void);

/* How many allocations are held now. */
uint64_t library_allocations(void);

/* How often the verifier would have let others run, since this was loaded. */
uint64_t library_rescheduled(void);

/* The count-th allocation from now fails, once; 0 takes that back. __GFP_NOFAIL never does. */
void library_fail_allocation(uint64_t count);

/* Another PAT register, another policy. */
void library_set_machine(uint32_t possible, uint32_t one_ioremap);

/* The machine's answer for a hazard: any function would do that depends on all it is asked. */
uint32_t library_hazards(uint64_t first, uint64_t last, uint32_t memtype);

void library_check(const struct library_request *request, struct library_verdict *verdict);

/* Return a handle, 0 when refused or out of memory. */
uint64_t library_track(const struct library_request *request, const char *owner,
		       struct library_verdict *verdict);
uint64_t library_adopt(const struct library_request *request, const char *owner);

void library_release(uint64_t handle);

uint64_t library_cut(uint64_t space, uint64_t address, uint64_t pfn, uint64_t pages);

void library_lookup(uint64_t first, uint64_t pages, struct library_lookup *found);

/* Fills in the first records that overlap [first, last], at most capacity; returns how many. */
uint64_t library_list(uint64_t first, uint64_t last, struct library_record *records,
		      uint64_t capacity);

/* Releases all that overlaps [first, last] in one space, while it is listed; returns how many. */
uint64_t library_release_all(uint64_t space, uint64_t first, uint64_t last);

#endif
