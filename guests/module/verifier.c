// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The verifier's rules and its records. See verifier.h. */
#include <linux/errno.h>
#include <linux/interval_tree_generic.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "verifier.h"

#define RECORD_FIRST(record) ((record)->first)
#define RECORD_LAST(record) ((record)->last)
#define PAGE_BYTES 4096ULL

INTERVAL_TREE_DEFINE(struct verifier_record, node, u64, subtree_last, RECORD_FIRST, RECORD_LAST,
		     static __maybe_unused, records)

void verifier_init(struct verifier *verifier, const struct verifier_arch *arch)
{
	verifier->records = RB_ROOT_CACHED;
	INIT_LIST_HEAD(&verifier->owners);
	verifier->arch = arch;
	verifier->one_ioremap = false;
}

void verifier_destroy(struct verifier *verifier)
{
	struct verifier_owner *owner, *next;
	struct verifier_record *record;

	while ((record = records_iter_first(&verifier->records, 0, U64_MAX)))
		verifier_release(verifier, record);
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

static bool refuse(struct verifier_verdict *verdict, enum verifier_rule rule, int error,
		   const struct verifier_record *conflict)
{
	verdict->rule = rule;
	verdict->error = error;
	verdict->conflict = conflict;
	return false;
}

/* Rules 0a and 0b: can the request be met at all? */
static bool sane(const struct verifier *verifier, const struct verifier_request *request,
		 struct verifier_verdict *verdict)
{
	u64 last_pfn = verifier->arch->last_pfn();

	if (!request->pages || request->first > last_pfn ||
	    request->pages - 1 > last_pfn - request->first)
		return refuse(verdict, VERIFIER_MALFORMED, EINVAL, NULL);
	if (!verifier->arch->possible(request->memtype))
		return refuse(verdict, VERIFIER_IMPOSSIBLE, EOPNOTSUPP, NULL);
	return true;
}

/* Rule 2: one type for every page that is mapped already. */
static bool no_alias(struct verifier *verifier, const struct verifier_request *request, u64 last,
		     struct verifier_verdict *verdict)
{
	struct verifier_record *record;

	for (record = records_iter_first(&verifier->records, request->first, last); record;
	     record = records_iter_next(record, request->first, last))
		if (record->memtype != request->memtype)
			return refuse(verdict, VERIFIER_ALIAS, EBUSY, record);
	return true;
}

/* Rule 4: with the policy one-ioremap, the kernel maps a page once. */
static bool exclusive(struct verifier *verifier, const struct verifier_request *request, u64 last,
		      struct verifier_verdict *verdict)
{
	struct verifier_record *record;

	if (!verifier->one_ioremap || request->space)
		return true;
	for (record = records_iter_first(&verifier->records, request->first, last); record;
	     record = records_iter_next(record, request->first, last))
		if (!record->space)
			return refuse(verdict, VERIFIER_EXCLUSIVE, EBUSY, record);
	return true;
}

void verifier_check(struct verifier *verifier, const struct verifier_request *request,
		    struct verifier_verdict *verdict)
{
	u64 last = request->first + request->pages - 1;

	*verdict = (struct verifier_verdict){ .rule = VERIFIER_ACCEPTED };
	if (!sane(verifier, request, verdict))
		return;
	if (request->memtype != verifier->arch->ram_memtype &&
	    verifier->arch->any_ram(request->first, last)) {
		refuse(verdict, VERIFIER_RAM_NOT_WB, EPERM, NULL);
		return;
	}
	if (!no_alias(verifier, request, last, verdict) ||
	    !exclusive(verifier, request, last, verdict))
		return;
	verdict->hazards = verifier->arch->hazards(request->first, last, request->memtype);
}

struct verifier_record *verifier_adopt(struct verifier *verifier,
				       const struct verifier_request *request)
{
	struct verifier_record *record = kzalloc(sizeof(*record), GFP_KERNEL);

	if (!record)
		return NULL;
	record->first = request->first;
	record->last = request->first + request->pages - 1;
	record->owner = request->owner;
	record->space = request->space;
	record->address = request->address;
	record->pid = request->pid;
	record->memtype = request->memtype;
	records_insert(record, &verifier->records);
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
	records_remove(record, &verifier->records);
	kfree(record);
}

static struct verifier_record *record_of(struct verifier *verifier, const void *space, u64 first,
					 u64 last, u64 address, u64 pages)
{
	u64 end = address + pages * PAGE_BYTES;
	struct verifier_record *record;

	for (record = records_iter_first(&verifier->records, first, last); record;
	     record = records_iter_next(record, first, last))
		if (record->space == space && record->address < end &&
		    record->address + (record->last - record->first + 1) * PAGE_BYTES > address)
			return record;
	return NULL;
}

u64 verifier_cut(struct verifier *verifier, const void *space, u64 address, u64 pfn, u64 pages)
{
	u64 last = pfn + pages - 1, taken = 0;
	struct verifier_record *record, *tail;

	while ((record = record_of(verifier, space, pfn, last, address, pages))) {
		u64 old_first = record->first, old_last = record->last;

		records_remove(record, &verifier->records);
		taken += min(last, old_last) - max(pfn, old_first) + 1;
		if (old_last > last) {
			if (old_first < pfn) {
				/* The middle goes. Failing here would lose count of a live mapping. */
				tail = kmemdup(record, sizeof(*record), GFP_KERNEL | __GFP_NOFAIL);
				tail->first = last + 1;
				tail->address += (tail->first - old_first) * PAGE_BYTES;
				records_insert(tail, &verifier->records);
			} else {
				record->first = last + 1;
				record->address += (record->first - old_first) * PAGE_BYTES;
			}
		}
		if (old_first < pfn)
			record->last = pfn - 1;
		if (old_first < pfn || old_last > last)
			records_insert(record, &verifier->records);
		else
			kfree(record);
	}
	return taken;
}

int verifier_lookup(struct verifier *verifier, u64 first, u64 pages, unsigned int *memtype,
		    bool *in_use)
{
	u64 last_pfn = verifier->arch->last_pfn();
	struct verifier_record *record, *next;
	u64 last = first + pages - 1;

	if (!pages || first > last_pfn || pages - 1 > last_pfn - first)
		return EINVAL;
	record = records_iter_first(&verifier->records, first, last);
	*in_use = record;
	if (!record) {
		*memtype = verifier->arch->default_memtype(first, last);
		return 0;
	}
	*memtype = record->memtype;
	for (next = record; next; next = records_iter_next(next, first, last))
		if (next->memtype != record->memtype)
			return EBUSY;
	return 0;
}

void verifier_each(struct verifier *verifier, u64 first, u64 last,
		   bool (*visit)(struct verifier_record *record, void *data), void *data)
{
	struct verifier_record *record, *next;

	for (record = records_iter_first(&verifier->records, first, last); record; record = next) {
		next = records_iter_next(record, first, last);
		if (!visit(record, data))
			return;
	}
}
