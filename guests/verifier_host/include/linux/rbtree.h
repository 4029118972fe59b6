/* SPDX-License-Identifier: MIT */
/*
 * The names of the kernel's rbtree that the verifier knows. Behind them is a
 * treap: the kernel's own code is GPL-2.0 alone, its lib/rbtree.c is in no
 * header package, and it isn't what is being tested here. The functions are in
 * interval_tree_generic.h.
 */
#ifndef HOST_LINUX_RBTREE_H
#define HOST_LINUX_RBTREE_H

#include <linux/types.h>

struct rb_node {
	struct rb_node *left, *right;
	/* An iterator isn't told which tree it is in. */
	struct rb_root_cached *root;
	/* Counts insertions: equal starts keep the order they came in, as in the kernel's tree. */
	u64 sequence;
};

struct rb_root_cached {
	struct rb_node *root;
	u64 inserted;
};

#define RB_ROOT_CACHED ((struct rb_root_cached){ NULL, 0 })

/* A treap's priority has to look random; the finisher of splitmix64 makes it so. */
static inline u64 rb_priority(const struct rb_node *node)
{
	u64 bits = node->sequence;

	bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9ULL;
	bits = (bits ^ bits >> 27) * 0x94d049bb133111ebULL;
	return bits ^ bits >> 31;
}

#endif
