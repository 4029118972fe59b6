// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The verifier's rules and its records. See verifier.h. */
#include <linux/errno.h>
#include <linux/interval_tree_generic.h>
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "verifier.h"

#define RECORD_FIRST(record) ((record)->first)
#define RECORD_LAST(record) ((record)->last)
#define PAGE_BYTES 4096ULL

INTERVAL_TREE_DEFINE(struct verifier_record, node, u64, subtree_last, RECORD_FIRST, RECORD_LAST,
		     static __maybe_unused, records)

/* Sets of trees, as bit masks: two bits for each type, the kernel's mappings in the lower. */
#define ALL_TREES (~0U >> (32 - 2 * VERIFIER_MEMTYPES))
#define KERNEL_TREES (ALL_TREES / 3)
#define TREES_OF(memtype) (3U << 2 * (memtype))

static struct rb_root_cached *verifier_tree_of(struct verifier *verifier, const void *space,
					       unsigned int memtype)
{
	return &verifier->records[memtype][!!space];
}

/* The tree of one bit of such a mask. */
static struct rb_root_cached *verifier_tree_at(struct verifier *verifier, unsigned int bit)
{
	return &verifier->records[bit / 2][bit % 2];
}

static struct verifier_record *verifier_first_overlap(struct verifier *verifier, unsigned int trees,
						      u64 first, u64 last)
{
	struct verifier_record *record, *found = NULL;
	unsigned int bit;

	for (bit = 0; bit < 2 * VERIFIER_MEMTYPES; bit++) {
		if (!(trees & 1U << bit))
			continue;
		record = records_iter_first(verifier_tree_at(verifier, bit), first, last);
		if (record && (!found || record->first < found->first))
			found = record;
	}
	return found;
}

void verifier_init(struct verifier *verifier, const struct verifier_arch *arch)
{
	unsigned int bit;

	for (bit = 0; bit < 2 * VERIFIER_MEMTYPES; bit++)
		*verifier_tree_at(verifier, bit) = RB_ROOT_CACHED;
	INIT_LIST_HEAD(&verifier->owners);
	verifier->arch = arch;
	verifier->one_ioremap = false;
}

void verifier_destroy(struct verifier *verifier)
{
	struct verifier_owner *owner, *next;
	struct verifier_record *record;

	while ((record = verifier_first_overlap(verifier, ALL_TREES, 0, U64_MAX))) {
		verifier_release(verifier, record);
		cond_resched();
	}
	list_for_each_entry_safe(owner, next, &verifier->owners, node) {
		list_del(&owner->node);
		kfree(owner);
	}
}

const struct verifier_owner *verifier_owner(struct verifier *verifier, const char *name)
{
	struct verifier_owner *owner;

	list_for_each_entry(owner, &verifier->owners, node)
		if (!strncmp(owner->name, name, sizeof(owner->name) - 1))
			return owner;
	owner = kzalloc(sizeof(*owner), GFP_KERNEL);
	if (!owner)
		return NULL;
	strscpy(owner->name, name, sizeof(owner->name));
	list_add_tail(&owner->node, &verifier->owners);
	return owner;
}

static bool verifier_mark_owner(struct verifier_record *record, void *data)
{
	((struct verifier_owner *)record->owner)->used = true;
	return true;
}

void verifier_forget_owners(struct verifier *verifier)
{
	struct verifier_owner *owner, *next;

	list_for_each_entry(owner, &verifier->owners, node)
		owner->used = false;
	verifier_each(verifier, 0, U64_MAX, verifier_mark_owner, NULL);
	list_for_each_entry_safe(owner, next, &verifier->owners, node)
		if (!owner->used) {
			list_del(&owner->node);
			kfree(owner);
		}
}

static bool verifier_refuse(struct verifier_verdict *verdict, enum verifier_rule rule, int error,
			    const struct verifier_record *conflict)
{
	verdict->rule = rule;
	verdict->error = error;
	verdict->conflict = conflict;
	return false;
}

/* Rules 0a and 0b: can the request be met at all? */
static bool verifier_sane(const struct verifier *verifier, const struct verifier_request *request,
			  struct verifier_verdict *verdict)
{
	u64 last_pfn = verifier->arch->last_pfn();

	if (!request->pages || request->first > last_pfn ||
	    request->pages - 1 > last_pfn - request->first)
		return verifier_refuse(verdict, VERIFIER_MALFORMED, -EINVAL, NULL);
	if (request->memtype >= VERIFIER_MEMTYPES || !verifier->arch->possible(request->memtype))
		return verifier_refuse(verdict, VERIFIER_IMPOSSIBLE, -EOPNOTSUPP, NULL);
	return true;
}

/* Rule 2: one type for every page that is not RAM and is mapped already. */
static bool verifier_no_alias(struct verifier *verifier, const struct verifier_request *request,
			      u64 last, struct verifier_verdict *verdict)
{
	unsigned int trees = ALL_TREES & ~TREES_OF(request->memtype);
	const struct verifier_record *record;
	u64 pfn = request->first;

	while ((record = verifier_first_overlap(verifier, trees, pfn, last))) {
		pfn = max(pfn, record->first);
		/*
		 * RAM has a rule of its own. With another type it is mapped by what was adopted, and
		 * by what was accepted before memory hotplug made it RAM.
		 */
		if (!verifier->arch->any_ram(pfn, pfn))
			return verifier_refuse(verdict, VERIFIER_ALIAS, -EBUSY, record);
		if (pfn++ == last)
			break;
		/* As many steps as there are pages. */
		cond_resched();
	}
	return true;
}

/* Rule 4: with the policy one-ioremap, the kernel maps a page once. */
static bool verifier_exclusive(struct verifier *verifier, const struct verifier_request *request,
			       u64 last, struct verifier_verdict *verdict)
{
	struct verifier_record *record;

	if (!verifier->one_ioremap || request->space)
		return true;
	record = verifier_first_overlap(verifier, KERNEL_TREES, request->first, last);
	return !record || verifier_refuse(verdict, VERIFIER_EXCLUSIVE, -EBUSY, record);
}

/* Rule 5: firmware's own memory is used with the type that firmware uses. */
static bool verifier_firmware_agrees(const struct verifier *verifier,
				     const struct verifier_request *request, u64 last,
				     struct verifier_verdict *verdict)
{
	if (!verifier->arch->firmware_memtypes ||
	    verifier->arch->firmware_memtypes(request->first, last) & 1U << request->memtype)
		return true;
	return verifier_refuse(verdict, VERIFIER_FIRMWARE, -EPERM, NULL);
}

void verifier_check(struct verifier *verifier, const struct verifier_request *request,
		    struct verifier_verdict *verdict)
{
	u64 last = request->first + request->pages - 1;

	*verdict = (struct verifier_verdict){ .rule = VERIFIER_ACCEPTED };
	if (!verifier_sane(verifier, request, verdict))
		return;
	if (request->memtype != verifier->arch->ram_memtype &&
	    verifier->arch->any_ram(request->first, last)) {
		verifier_refuse(verdict, VERIFIER_RAM_NOT_WB, -EPERM, NULL);
		return;
	}
	if (!verifier_no_alias(verifier, request, last, verdict) ||
	    !verifier_exclusive(verifier, request, last, verdict) ||
	    !verifier_firmware_agrees(verifier, request, last, verdict))
		return;
	verdict->hazards = verifier->arch->hazards(request->first, last, request->memtype);
}

struct verifier_record *verifier_adopt(struct verifier *verifier,
				       const struct verifier_request *request)
{
	struct verifier_record *record;

	if (request->memtype >= VERIFIER_MEMTYPES)
		return NULL;
	record = kzalloc(sizeof(*record), GFP_KERNEL);
	if (!record)
		return NULL;
	record->first = request->first;
	record->last = request->first + request->pages - 1;
	record->owner = request->owner;
	record->space = request->space;
	record->address = request->address;
	record->pid = request->pid;
	record->memtype = request->memtype;
	record->observed = request->observed;
	records_insert(record, verifier_tree_of(verifier, record->space, record->memtype));
	return record;
}

struct verifier_record *verifier_track(struct verifier *verifier,
				       const struct verifier_request *request,
				       struct verifier_verdict *verdict)
{
	verifier_check(verifier, request, verdict);
	if (verdict->error)
		return NULL;
	return verifier_adopt(verifier, request);
}

void verifier_release(struct verifier *verifier, struct verifier_record *record)
{
	records_remove(record, verifier_tree_of(verifier, record->space, record->memtype));
	kfree(record);
}

/* Takes [pfn, last] out of one record. Returns how many pages that were. */
static u64 verifier_cut_record(struct rb_root_cached *tree, struct verifier_record *record, u64 pfn,
			       u64 last)
{
	u64 old_first = record->first, old_last = record->last;
	struct verifier_record *tail;

	records_remove(record, tree);
	if (old_last > last) {
		if (old_first < pfn) {
			/* The middle goes. Failing here would lose count of a live mapping. */
			tail = kmemdup(record, sizeof(*record), GFP_KERNEL | __GFP_NOFAIL);
			tail->first = last + 1;
			tail->address += (tail->first - old_first) * PAGE_BYTES;
			records_insert(tail, tree);
		} else {
			record->first = last + 1;
			record->address += (record->first - old_first) * PAGE_BYTES;
		}
	}
	if (old_first < pfn)
		record->last = pfn - 1;
	if (old_first < pfn || old_last > last)
		records_insert(record, tree);
	else
		kfree(record);
	return min(last, old_last) - max(pfn, old_first) + 1;
}

u64 verifier_cut(struct verifier *verifier, const void *space, u64 address, u64 pfn, u64 pages)
{
	u64 end = address + pages * PAGE_BYTES, last = pfn + pages - 1, taken = 0;
	struct verifier_record *record, *next;
	struct rb_root_cached *tree;
	unsigned int memtype;

	for (memtype = 0; memtype < VERIFIER_MEMTYPES; memtype++) {
		tree = verifier_tree_of(verifier, space, memtype);
		for (record = records_iter_first(tree, pfn, last); record; record = next) {
			/* What is left of a record lies outside [pfn, last] and isn't met again. */
			next = records_iter_next(record, pfn, last);
			if (record->space == space && record->address < end &&
			    record->address + (record->last - record->first + 1) * PAGE_BYTES >
				    address)
				taken += verifier_cut_record(tree, record, pfn, last);
			cond_resched();
		}
	}
	return taken;
}

int verifier_lookup(struct verifier *verifier, u64 first, u64 pages, unsigned int *memtype,
		    bool *in_use)
{
	u64 last_pfn = verifier->arch->last_pfn();
	u64 last = first + pages - 1;
	struct verifier_record *record;

	if (!pages || first > last_pfn || pages - 1 > last_pfn - first)
		return -EINVAL;
	record = verifier_first_overlap(verifier, ALL_TREES, first, last);
	*in_use = record;
	*memtype = record ? record->memtype : verifier->arch->default_memtype(first, last);
	if (record &&
	    verifier_first_overlap(verifier, ALL_TREES & ~TREES_OF(*memtype), first, last))
		return -EBUSY;
	return 0;
}

void verifier_each(struct verifier *verifier, u64 first, u64 last,
		   bool (*visit)(struct verifier_record *record, void *data), void *data)
{
	struct verifier_record *record, *next[2 * VERIFIER_MEMTYPES];
	unsigned int bit, lowest;

	for (bit = 0; bit < ARRAY_SIZE(next); bit++)
		next[bit] = records_iter_first(verifier_tree_at(verifier, bit), first, last);
	for (;;) {
		for (lowest = 0, bit = 1; bit < ARRAY_SIZE(next); bit++)
			if (next[bit] && (!next[lowest] || next[bit]->first < next[lowest]->first))
				lowest = bit;
		record = next[lowest];
		if (!record)
			return;
		next[lowest] = records_iter_next(record, first, last);
		if (!visit(record, data))
			return;
		cond_resched();
	}
}
