/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Mappings of processes, which live and die with their VMAs. user_mmap.c makes some of them. */
#ifndef USER_MAPPING_H
#define USER_MAPPING_H

#include <linux/kref.h>
#include <linux/mm.h>

#include "memtype_uapi.h"
#include "verifier.h"

/* A piece of memory in a VMA. */
struct user_piece {
	u64 offset;		/* of its first page, as vm_pgoff counts: a split and a move keep that */
	u64 frame;		/* what is mapped there */
	u64 pages;
};

/* One mmap() and all that became of it. */
struct user_mapping {
	struct kref references;
	struct list_head node;
	struct file *file;	/* an open /dev/memtype, which keeps the module from being unloaded */
	struct vm_operations_struct operations;
	const struct vm_operations_struct *original;
	const struct verifier_owner *owner;
	struct user_piece pieces[MEMTYPE_MOST_PIECES];
	u32 piece_count;
	bool counted;		/* not where the verifier refused */
	u32 memtype;
};

/*
 * Has no pieces and counts nothing yet. The operations are the original ones, if any, with open()
 * and close() put before theirs. file is one of our device's. NULL when there is no memory.
 */
struct user_mapping *user_mapping_new(struct file *file, struct vm_area_struct *vma,
				      u32 memtype, const struct vm_operations_struct *original,
				      const char *owner);
/* One that follows no VMA. */
void user_mapping_free(struct user_mapping *mapping);
/* There is room for MEMTYPE_MOST_PIECES. */
void user_mapping_add_piece(struct user_mapping *mapping, u64 offset, u64 frame, u64 pages);
/* What to ask the verifier for a piece in a VMA. False when none of its pages are there. */
bool user_mapping_request(struct vm_area_struct *vma, const struct user_mapping *mapping, u32 piece,
			  struct verifier_request *request);
/* From now on the records follow the VMA, which must have the mmap lock taken for writing. */
void user_mapping_follow(struct user_mapping *mapping, struct vm_area_struct *vma);

bool user_mapping_any(void);
/* May a process have some of these pages mapped through us? state_lock is held. */
bool user_mapping_of(u64 first, u64 last);
int user_mapping_adopt(struct file *file, const struct memtype_address *range);
int user_mapping_read(struct memtype_address *range);
int user_mapping_set_owner(const char *name);

#endif
