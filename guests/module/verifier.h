/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The verifier proposed on LKML on 30 August 2005 ("solving page table access
 * attribute aliasing", Eric Biederman and Andi Kleen): no page is mapped with
 * two memory types, kernel and user mappings alike, with reference counts.
 *
 * Nothing in here knows an architecture. A memory type is a small number whose
 * meaning belongs to struct verifier_arch; the core only compares them.
 *
 * The caller serialises: every function wants the same lock held.
 */
#ifndef VERIFIER_H
#define VERIFIER_H

#include <linux/list.h>
#include <linux/rbtree.h>
#include <linux/types.h>

struct verifier_arch {
	/* The highest page frame the CPU can address. */
	u64 (*last_pfn)(void);
	/* Can the page tables express this type at present? */
	bool (*possible)(unsigned int memtype);
	/* Does any page of [first, last] have a struct page of RAM? */
	bool (*any_ram)(u64 first, u64 last);
	/*
	 * A bit for each type that may be asked for so that every page of [first, last] that is the
	 * own of firmware, which runs beside the kernel (x86: SMRAM), is used as firmware uses it; all
	 * bits where there is no such page. May be NULL.
	 */
	u32 (*firmware_memtypes)(u64 first, u64 last);
	/* Hazards of mapping [first, last] with this type: a bit mask, reported, never refused. */
	unsigned int (*hazards)(u64 first, u64 last, unsigned int memtype);
	/* What RAM must be mapped as, and what untouched memory is mapped as when nobody cares. */
	unsigned int ram_memtype;
	unsigned int (*default_memtype)(u64 first, u64 last);
};

/* Names are shared by records, and live until the verifier is told to forget those without. */
struct verifier_owner {
	struct list_head node;
	char name[32];
	bool used;		/* while names are forgotten */
};

struct verifier_record {
	struct rb_node node;
	u64 first;
	u64 last;
	u64 subtree_last;
	const struct verifier_owner *owner;
	const void *space;	/* the address space of a user mapping, NULL for the kernel's */
	u64 address;		/* in that address space */
	int pid;
	u8 memtype;
	bool observed;		/* somebody else made the mapping: seen, not asked for */
};

struct verifier_request {
	u64 first;
	u64 pages;
	unsigned int memtype;
	const struct verifier_owner *owner;
	const void *space;
	u64 address;
	int pid;
	bool observed;
};

enum verifier_rule {
	VERIFIER_ACCEPTED,
	VERIFIER_MALFORMED,
	VERIFIER_IMPOSSIBLE,
	VERIFIER_RAM_NOT_WB,
	VERIFIER_ALIAS,
	VERIFIER_EXCLUSIVE,
	VERIFIER_FIRMWARE,
};

struct verifier_verdict {
	enum verifier_rule rule;
	int error;		/* 0 when accepted */
	unsigned int hazards;
	const struct verifier_record *conflict;	/* valid while the lock is held */
};

/* What a page-table entry of x86 (PAT) and of arm64 (MAIR) tells apart. */
#define VERIFIER_MEMTYPES 8

struct verifier {
	/*
	 * A tree for each type, [0] with the kernel's mappings and [1] with user space's. Whether
	 * anything here has another type then costs one look into each of the others, be this
	 * page mapped once or 100,000 times.
	 */
	struct rb_root_cached records[VERIFIER_MEMTYPES][2];
	struct list_head owners;
	const struct verifier_arch *arch;
	bool one_ioremap;
};

void verifier_init(struct verifier *verifier, const struct verifier_arch *arch);
void verifier_destroy(struct verifier *verifier);

const struct verifier_owner *verifier_owner(struct verifier *verifier, const char *name);

/* Frees the names that no record has, so nobody else may hold one. */
void verifier_forget_owners(struct verifier *verifier);

/*
 * verify_pfn_mapping(): may these pages be mapped so? Changes nothing.
 * Every page is checked, and the verdict names the mapping in the way that begins first.
 */
void verifier_check(struct verifier *verifier, const struct verifier_request *request,
		    struct verifier_verdict *verdict);

/* The same, and the mapping is counted when accepted. Returns NULL when refused or out of memory. */
struct verifier_record *verifier_track(struct verifier *verifier,
				       const struct verifier_request *request,
				       struct verifier_verdict *verdict);

/*
 * Counts a mapping that exists already, whatever the rules say: what fork() duplicates.
 * Returns NULL when out of memory, and for a type no page table can hold.
 */
struct verifier_record *verifier_adopt(struct verifier *verifier,
				       const struct verifier_request *request);

void verifier_release(struct verifier *verifier, struct verifier_record *record);

/*
 * Takes [address, address + pages) of one address space out of its records,
 * which may be trimmed, split or removed. pfn is where the range begins.
 * Returns how many pages were taken out.
 */
u64 verifier_cut(struct verifier *verifier, const void *space, u64 address, u64 pfn, u64 pages);

/*
 * lookup_pfn_memtype(): "don't care, give me the type in use, or a default".
 * Returns 0 or a negative errno: -EBUSY when the pages in use differ.
 */
int verifier_lookup(struct verifier *verifier, u64 first, u64 pages, unsigned int *memtype,
		    bool *in_use);

/*
 * Calls visit for each record that overlaps [first, last], in the order of their first pages,
 * until it says false. It may release the record it was given, and change its owner and pid.
 */
void verifier_each(struct verifier *verifier, u64 first, u64 last,
		   bool (*visit)(struct verifier_record *record, void *data), void *data);

#endif
