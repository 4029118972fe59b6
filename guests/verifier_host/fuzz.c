// SPDX-License-Identifier: MIT
/*
 * libFuzzer over the verifier. The bytes of an input are operations, six bytes
 * each; after each one the verifier is compared with a reference that is an
 * array of pages. framework/pytest_memtype/spec/verifier.py is the reference
 * to read; this one is fast enough for a fuzzer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "library.h"
#include "verifier.h"

#define PAGE_BYTES 4096ULL
#define FRAMES 64
#define LIMIT 2048
#define RAM_FIRST 16
#define RAM_PAGES 8
#define RAM_MEMTYPE 6
#define DEFAULT_MEMTYPE 7
#define FIRMWARE_FIRST 48
#define FIRMWARE_PAGES 4
#define FIRMWARE_MEMTYPES 0xf1

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "operation %u: not so: %s\n", operation, #condition);      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* One page of one mapping. All members are of one size, so that memcmp() compares. */
struct page {
	uint64_t pfn, space, address, memtype, owner;
};

static struct page pages[LIMIT];
static size_t page_count;
static struct library_machine machine;
static unsigned int operation;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct page fuzz_page_of(const struct library_record *record, uint64_t pfn)
{
	return (struct page){
		.pfn = pfn,
		.space = record->space,
		.address = record->space ? record->address + (pfn - record->first) * PAGE_BYTES : 0,
		.memtype = record->memtype,
		.owner = (unsigned char)record->owner[0],
	};
}

static void fuzz_add(const struct library_request *request, const char *owner)
{
	struct library_record record = {
		.first = request->first,
		.space = request->space,
		.address = request->address,
		.memtype = request->memtype,
		.owner = { owner[0] },
	};
	uint64_t pfn;

	for (pfn = request->first; pfn < request->first + request->pages; pfn++)
		pages[page_count++] = fuzz_page_of(&record, pfn);
}

static void fuzz_take(const struct library_record *record)
{
	struct page wanted;
	uint64_t pfn;
	size_t i;

	for (pfn = record->first; pfn <= record->last; pfn++) {
		wanted = fuzz_page_of(record, pfn);
		for (i = 0; i < page_count && memcmp(&pages[i], &wanted, sizeof(wanted)); i++)
			;
		CHECK(i < page_count);
		pages[i] = pages[--page_count];
	}
}

static uint64_t fuzz_unmap(uint64_t space, uint64_t address, uint64_t end)
{
	uint64_t taken = 0;
	size_t i = 0;

	while (i < page_count) {
		if (pages[i].space == space && pages[i].address >= address &&
		    pages[i].address < end) {
			pages[i] = pages[--page_count];
			taken++;
		} else {
			i++;
		}
	}
	return taken;
}

static bool fuzz_is_ram(uint64_t pfn)
{
	return pfn >= RAM_FIRST && pfn < RAM_FIRST + RAM_PAGES;
}

static bool fuzz_malformed(uint64_t first, uint64_t count)
{
	return !count || count > FRAMES || first > FRAMES - count;
}

/* Whether a page of a mapping is in the way of a request, by rule 2 or by rule 4. */
static bool fuzz_in_the_way(const struct page *page, const struct library_request *request,
			    enum verifier_rule rule)
{
	if (page->pfn < request->first || page->pfn - request->first >= request->pages)
		return false;
	if (rule == VERIFIER_ALIAS)
		return page->memtype != request->memtype && !fuzz_is_ram(page->pfn);
	return machine.one_ioremap && !request->space && !page->space;
}

static void fuzz_compare(const struct library_verdict *verdict,
			 const struct library_request *request)
{
	enum verifier_rule rule = VERIFIER_ACCEPTED;
	uint64_t pfn, lowest = UINT64_MAX;
	size_t i;

	if (fuzz_malformed(request->first, request->pages))
		rule = VERIFIER_MALFORMED;
	else if (request->memtype >= VERIFIER_MEMTYPES || !(machine.possible >> request->memtype & 1))
		rule = VERIFIER_IMPOSSIBLE;
	for (pfn = request->first; !rule && pfn < request->first + request->pages; pfn++)
		if (fuzz_is_ram(pfn) && request->memtype != RAM_MEMTYPE)
			rule = VERIFIER_RAM_NOT_WB;
	for (i = 0; !rule && i < page_count; i++)
		if (fuzz_in_the_way(&pages[i], request, VERIFIER_ALIAS))
			rule = VERIFIER_ALIAS;
	for (i = 0; !rule && i < page_count; i++)
		if (fuzz_in_the_way(&pages[i], request, VERIFIER_EXCLUSIVE))
			rule = VERIFIER_EXCLUSIVE;
	for (pfn = request->first; !rule && pfn < request->first + request->pages; pfn++)
		if (pfn >= FIRMWARE_FIRST && pfn < FIRMWARE_FIRST + FIRMWARE_PAGES &&
		    !(FIRMWARE_MEMTYPES & 1U << request->memtype))
			rule = VERIFIER_FIRMWARE;
	CHECK(verdict->rule == rule);
	CHECK(!verdict->error == (rule == VERIFIER_ACCEPTED));
	if (rule == VERIFIER_ACCEPTED)
		CHECK(verdict->hazards == library_hazards(request->first,
							  request->first + request->pages - 1,
							  request->memtype));
	if (rule != VERIFIER_ALIAS && rule != VERIFIER_EXCLUSIVE) {
		CHECK(!verdict->has_conflict);
		return;
	}
	for (i = 0; i < page_count; i++)
		if (fuzz_in_the_way(&pages[i], request, rule) && pages[i].pfn < lowest)
			lowest = pages[i].pfn;
	CHECK(verdict->has_conflict);
	for (i = 0; i < page_count; i++) {
		struct page named = fuzz_page_of(&verdict->conflict, lowest);

		if (verdict->conflict.first <= lowest && lowest <= verdict->conflict.last &&
		    fuzz_in_the_way(&pages[i], request, rule) &&
		    !memcmp(&pages[i], &named, sizeof(named)))
			return;
	}
	CHECK(!"the mapping that is named is in the way of the lowest page");
}

static int fuzz_in_order(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct page));
}

static struct library_record records[LIMIT];

static void fuzz_compare_all(void)
{
	static struct page listed[LIMIT];
	uint64_t count = library_list(0, UINT64_MAX, records, LIMIT), i, pfn;
	size_t total = 0;

	for (i = 0; i < count; i++)
		for (pfn = records[i].first; pfn <= records[i].last; pfn++) {
			CHECK(total < page_count);
			listed[total++] = fuzz_page_of(&records[i], pfn);
		}
	CHECK(total == page_count);
	qsort(listed, total, sizeof(listed[0]), fuzz_in_order);
	qsort(pages, page_count, sizeof(pages[0]), fuzz_in_order);
	CHECK(!memcmp(listed, pages, total * sizeof(listed[0])));
}

static void fuzz_compare_part(uint64_t first, uint64_t last)
{
	uint64_t count, i, overlaps = 0;

	count = library_list(0, UINT64_MAX, records, LIMIT);
	for (i = 0; i < count; i++)
		overlaps += records[i].first <= last && records[i].last >= first;
	count = library_list(first, last, records, LIMIT);
	CHECK(count == overlaps);
	for (i = 0; i < count; i++) {
		CHECK(records[i].first <= last && records[i].last >= first);
		CHECK(!i || records[i - 1].first <= records[i].first);
	}
}

static void fuzz_compare_lookup(uint64_t first, uint64_t count)
{
	uint64_t types = 0;
	struct library_lookup found;
	size_t i;

	library_lookup(first, count, &found);
	if (fuzz_malformed(first, count)) {
		CHECK(found.error == EINVAL);
		return;
	}
	for (i = 0; i < page_count; i++)
		if (pages[i].pfn >= first && pages[i].pfn < first + count)
			types |= 1ULL << pages[i].memtype;
	CHECK(found.error == (types & (types - 1) ? EBUSY : 0));
	if (!found.error && types)
		CHECK(found.in_use && types == 1ULL << found.memtype);
	if (!types)
		CHECK(!found.in_use &&
		      found.memtype == (first < RAM_FIRST + RAM_PAGES && first + count > RAM_FIRST ?
						RAM_MEMTYPE :
						DEFAULT_MEMTYPE));
}

/* A process has the page frame n at window + n pages; the kernel has none of it. */
static struct library_request fuzz_request_from(const uint8_t *bytes)
{
	static const uint64_t extremes[] = { 0, FRAMES, FRAMES + 1, UINT64_MAX, UINT64_MAX - 1, 1ULL << 52 };
	struct library_request request = { .first = bytes[1] % FRAMES, .pages = bytes[2] % 16 + 1 };
	uint64_t window = (bytes[4] >> 4 & 1) ? 0x7f0000000000ULL : 0x100000;

	if (bytes[2] >= 0xf0)
		request.pages = extremes[bytes[2] % 6];
	if (bytes[1] >= 0xf0)
		request.first = extremes[bytes[1] % 6];
	request.memtype = bytes[3] % 9;
	request.space = bytes[4] & 3;
	request.pid = request.space;
	request.address = request.space ? window + request.first * PAGE_BYTES : 0;
	return request;
}

static void fuzz_operate(const uint8_t *bytes)
{
	static const char *const owners[] = { "a", "b", "c" };
	struct library_request request = fuzz_request_from(bytes);
	const char *owner = owners[bytes[5] % 3];
	struct library_verdict verdict;
	uint64_t handle, count, taken;

	switch (bytes[0] % 10) {
	case 0:
		library_check(&request, &verdict);
		fuzz_compare(&verdict, &request);
		break;
	case 1:
	case 2:
		handle = library_track(&request, owner, &verdict);
		fuzz_compare(&verdict, &request);
		CHECK(!handle == (verdict.rule != VERIFIER_ACCEPTED));
		if (handle)
			fuzz_add(&request, owner);
		break;
	case 3:
		/* The first may be the owner's name; the record is then the second. */
		library_fail_allocation(bytes[5] % 2 + 1);
		handle = library_track(&request, owner, &verdict);
		library_fail_allocation(0);
		if (handle)
			fuzz_add(&request, owner);
		break;
	case 4:
		if (fuzz_malformed(request.first, request.pages))
			break;
		handle = library_adopt(&request, owner);
		CHECK(!handle == (request.memtype >= VERIFIER_MEMTYPES));
		if (handle)
			fuzz_add(&request, owner);
		break;
	case 5:
		count = library_list(0, UINT64_MAX, records, LIMIT);
		if (!count)
			break;
		fuzz_take(&records[bytes[1] % count]);
		library_release(records[bytes[1] % count].handle);
		break;
	case 6:
		if (fuzz_malformed(request.first, request.pages) || !request.space)
			break;
		/* Can't fail, for want of memory or for anything else. */
		library_fail_allocation(1);
		taken = library_cut(request.space, request.address, request.first, request.pages);
		library_fail_allocation(0);
		CHECK(taken == fuzz_unmap(request.space, request.address,
					  request.address + request.pages * PAGE_BYTES));
		break;
	case 7:
		fuzz_compare_lookup(request.first, request.pages);
		if (!fuzz_malformed(request.first, request.pages))
			fuzz_compare_part(request.first, request.first + request.pages - 1);
		break;
	case 8:
		library_release_all(request.space, 0, UINT64_MAX);
		fuzz_unmap(request.space, 0, UINT64_MAX);
		break;
	case 9:
		machine.possible = bytes[3];
		machine.one_ioremap = bytes[4] & 1;
		library_set_machine(machine.possible, machine.one_ioremap);
		break;
	}
	fuzz_compare_all();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	machine = (struct library_machine){
		.last_pfn = FRAMES - 1,
		.possible = 0xff,
		.ram_first = RAM_FIRST,
		.ram_pages = RAM_PAGES,
		.ram_memtype = RAM_MEMTYPE,
		.default_memtype = DEFAULT_MEMTYPE,
		.firmware_first = FIRMWARE_FIRST,
		.firmware_pages = FIRMWARE_PAGES,
		.firmware_memtypes = FIRMWARE_MEMTYPES,
	};
	page_count = 0;
	operation = 0;
	library_start(&machine);
	/* An operation adds 64 pages at most: what all of memory has. */
	for (; size >= 6 && page_count + FRAMES < LIMIT; data += 6, size -= 6) {
		fuzz_operate(data);
		operation++;
	}
	CHECK(library_stop() == 0);
	return 0;
}
