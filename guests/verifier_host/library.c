// SPDX-License-Identifier: MIT
/* See library.h. */
#include <stdlib.h>

#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "library.h"
#include "verifier.h"

static struct library_machine machine;
static struct verifier verifier;
static uint64_t allocations, until_failure, rescheduled;

void *kzalloc(size_t size, gfp_t flags)
{
	void *memory;

	if (!(flags & __GFP_NOFAIL) && until_failure && !--until_failure)
		return NULL;
	memory = calloc(1, size);
	if (!memory)
		abort();
	allocations++;
	return memory;
}

void kfree(const void *memory)
{
	if (memory)
		allocations--;
	free((void *)memory);
}

static u64 library_last_pfn(void)
{
	return machine.last_pfn;
}

static bool library_possible(unsigned int memtype)
{
	/* Whoever asks for more must have been refused before. */
	return machine.possible >> memtype & 1;
}

static bool library_overlap(u64 first, u64 last, u64 start, u64 pages)
{
	return pages && first <= start + pages - 1 && last >= start;
}

static bool library_any_ram(u64 first, u64 last)
{
	return library_overlap(first, last, machine.ram_first, machine.ram_pages);
}

static u32 library_firmware_memtypes(u64 first, u64 last)
{
	bool firmware =
		library_overlap(first, last, machine.firmware_first, machine.firmware_pages);

	return firmware ? machine.firmware_memtypes : UINT32_MAX;
}

uint32_t library_hazards(uint64_t first, uint64_t last, uint32_t memtype)
{
	return (3 * first + 5 * last + memtype) & 7;
}

static unsigned int library_arch_hazards(u64 first, u64 last, unsigned int memtype)
{
	return library_hazards(first, last, memtype);
}

static unsigned int library_default_memtype(u64 first, u64 last)
{
	return library_any_ram(first, last) ? machine.ram_memtype : machine.default_memtype;
}

static struct verifier_arch arch = {
	.last_pfn = library_last_pfn,
	.possible = library_possible,
	.any_ram = library_any_ram,
	.hazards = library_arch_hazards,
	.default_memtype = library_default_memtype,
	.firmware_memtypes = library_firmware_memtypes,
};

void library_start(const struct library_machine *described)
{
	machine = *described;
	arch.ram_memtype = machine.ram_memtype;
	allocations = 0;
	until_failure = 0;
	verifier_init(&verifier, &arch);
	verifier.one_ioremap = machine.one_ioremap;
}

uint64_t library_stop(void)
{
	verifier_destroy(&verifier);
	return allocations;
}

void cond_resched(void)
{
	rescheduled++;
}

uint64_t library_rescheduled(void)
{
	return rescheduled;
}

uint64_t library_allocations(void)
{
	return allocations;
}

void library_fail_allocation(uint64_t count)
{
	until_failure = count;
}

void library_set_machine(uint32_t possible_types, uint32_t one_ioremap)
{
	machine.possible = possible_types;
	verifier.one_ioremap = one_ioremap;
}

static struct verifier_request library_request_from(const struct library_request *from,
						    const struct verifier_owner *owner)
{
	return (struct verifier_request){
		.first = from->first,
		.pages = from->pages,
		.memtype = from->memtype,
		.owner = owner,
		.space = (const void *)(uintptr_t)from->space,
		.address = from->address,
		.pid = from->pid,
	};
}

static void library_fill_record(struct library_record *to, const struct verifier_record *from)
{
	*to = (struct library_record){
		.handle = (uintptr_t)from,
		.first = from->first,
		.last = from->last,
		.space = (uintptr_t)from->space,
		.address = from->address,
		.memtype = from->memtype,
		.pid = from->pid,
	};
	strscpy(to->owner, from->owner->name, sizeof(to->owner));
}

static void library_fill_verdict(struct library_verdict *to, const struct verifier_verdict *from)
{
	*to = (struct library_verdict){
		.rule = from->rule,
		.error = -from->error,
		.hazards = from->hazards,
		.has_conflict = !!from->conflict,
	};
	if (from->conflict)
		library_fill_record(&to->conflict, from->conflict);
}

void library_check(const struct library_request *request, struct library_verdict *verdict)
{
	struct verifier_request asked = library_request_from(request, NULL);
	struct verifier_verdict answer;

	verifier_check(&verifier, &asked, &answer);
	library_fill_verdict(verdict, &answer);
}

uint64_t library_track(const struct library_request *request, const char *owner,
		       struct library_verdict *verdict)
{
	struct verifier_request asked =
		library_request_from(request, verifier_owner(&verifier, owner));
	struct verifier_verdict answer;
	struct verifier_record *record;

	*verdict = (struct library_verdict){ 0 };
	if (!asked.owner)
		return 0;
	record = verifier_track(&verifier, &asked, &answer);
	library_fill_verdict(verdict, &answer);
	return (uintptr_t)record;
}

uint64_t library_adopt(const struct library_request *request, const char *owner)
{
	struct verifier_request asked =
		library_request_from(request, verifier_owner(&verifier, owner));

	return asked.owner ? (uintptr_t)verifier_adopt(&verifier, &asked) : 0;
}

void library_release(uint64_t handle)
{
	verifier_release(&verifier, (struct verifier_record *)(uintptr_t)handle);
}

uint64_t library_cut(uint64_t space, uint64_t address, uint64_t pfn, uint64_t pages)
{
	return verifier_cut(&verifier, (const void *)(uintptr_t)space, address, pfn, pages);
}

void library_lookup(uint64_t first, uint64_t pages, struct library_lookup *found)
{
	bool in_use = false;

	*found = (struct library_lookup){ 0 };
	found->error = -verifier_lookup(&verifier, first, pages, &found->memtype, &in_use);
	found->in_use = in_use;
}

struct listing {
	struct library_record *records;
	uint64_t capacity, count;
};

static bool library_list_record(struct verifier_record *record, void *data)
{
	struct listing *listing = data;

	library_fill_record(&listing->records[listing->count++], record);
	return listing->count < listing->capacity;
}

uint64_t library_list(uint64_t first, uint64_t last, struct library_record *records,
		      uint64_t capacity)
{
	struct listing listing = { .records = records, .capacity = capacity };

	if (capacity)
		verifier_each(&verifier, first, last, library_list_record, &listing);
	return listing.count;
}

struct end_of_space {
	const void *space;
	uint64_t released;
};

static bool library_release_record(struct verifier_record *record, void *data)
{
	struct end_of_space *end = data;

	if (record->space == end->space) {
		verifier_release(&verifier, record);
		end->released++;
	}
	return true;
}

uint64_t library_release_all(uint64_t space, uint64_t first, uint64_t last)
{
	struct end_of_space end = { .space = (const void *)(uintptr_t)space };

	verifier_each(&verifier, first, last, library_release_record, &end);
	return end.released;
}
