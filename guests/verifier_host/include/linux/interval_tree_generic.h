/* SPDX-License-Identifier: MIT */
/*
 * INTERVAL_TREE_DEFINE() with the kernel's parameters and meaning (Linux,
 * include/linux/interval_tree_generic.h), over a treap. Nodes are ordered by
 * start; each knows the highest last of its subtree. The limits of a node are
 * read from it each time, so one that is changed inside the tree goes wrong
 * here as it would in the kernel.
 */
#ifndef HOST_LINUX_INTERVAL_TREE_GENERIC_H
#define HOST_LINUX_INTERVAL_TREE_GENERIC_H

#include <linux/kernel.h>
#include <linux/rbtree.h>

#define INTERVAL_TREE_DEFINE(TYPE, NODE, LIMIT, SUBTREE, START, LAST, STATIC, PREFIX)              \
	static inline TYPE *PREFIX##_of(struct rb_node *node)                                      \
	{                                                                                          \
		return container_of(node, TYPE, NODE);                                             \
	}                                                                                          \
                                                                                                   \
	static inline bool PREFIX##_before(struct rb_node *a, struct rb_node *b)                   \
	{                                                                                          \
		if (START(PREFIX##_of(a)) != START(PREFIX##_of(b)))                                \
			return START(PREFIX##_of(a)) < START(PREFIX##_of(b));                      \
		return a->sequence < b->sequence;                                                  \
	}                                                                                          \
                                                                                                   \
	static struct rb_node *PREFIX##_updated(struct rb_node *node)                              \
	{                                                                                          \
		LIMIT last = LAST(PREFIX##_of(node));                                              \
                                                                                                   \
		if (node->left && PREFIX##_of(node->left)->SUBTREE > last)                         \
			last = PREFIX##_of(node->left)->SUBTREE;                                   \
		if (node->right && PREFIX##_of(node->right)->SUBTREE > last)                       \
			last = PREFIX##_of(node->right)->SUBTREE;                                  \
		PREFIX##_of(node)->SUBTREE = last;                                                 \
		return node;                                                                       \
	}                                                                                          \
                                                                                                   \
	/* Parts a tree into what comes before a node and what comes after. */                     \
	static void PREFIX##_part(struct rb_node *tree, struct rb_node *at, struct rb_node **left, \
				  struct rb_node **right)                                          \
	{                                                                                          \
		if (!tree) {                                                                       \
			*left = *right = NULL;                                                     \
		} else if (PREFIX##_before(tree, at)) {                                            \
			PREFIX##_part(tree->right, at, &tree->right, right);                       \
			*left = PREFIX##_updated(tree);                                            \
		} else {                                                                           \
			PREFIX##_part(tree->left, at, left, &tree->left);                          \
			*right = PREFIX##_updated(tree);                                           \
		}                                                                                  \
	}                                                                                          \
                                                                                                   \
	static struct rb_node *PREFIX##_join(struct rb_node *left, struct rb_node *right)          \
	{                                                                                          \
		if (!left || !right)                                                               \
			return left ? left : right;                                                \
		if (rb_priority(left) > rb_priority(right)) {                                      \
			left->right = PREFIX##_join(left->right, right);                           \
			return PREFIX##_updated(left);                                             \
		}                                                                                  \
		right->left = PREFIX##_join(left, right->left);                                    \
		return PREFIX##_updated(right);                                                    \
	}                                                                                          \
                                                                                                   \
	static struct rb_node *PREFIX##_with(struct rb_node *tree, struct rb_node *node)           \
	{                                                                                          \
		if (!tree || rb_priority(node) > rb_priority(tree)) {                              \
			PREFIX##_part(tree, node, &node->left, &node->right);                      \
			return PREFIX##_updated(node);                                             \
		}                                                                                  \
		if (PREFIX##_before(node, tree))                                                   \
			tree->left = PREFIX##_with(tree->left, node);                              \
		else                                                                               \
			tree->right = PREFIX##_with(tree->right, node);                            \
		return PREFIX##_updated(tree);                                                     \
	}                                                                                          \
                                                                                                   \
	static struct rb_node *PREFIX##_without(struct rb_node *tree, struct rb_node *node)        \
	{                                                                                          \
		if (tree == node)                                                                  \
			return PREFIX##_join(node->left, node->right);                             \
		if (PREFIX##_before(node, tree))                                                   \
			tree->left = PREFIX##_without(tree->left, node);                           \
		else                                                                               \
			tree->right = PREFIX##_without(tree->right, node);                         \
		return PREFIX##_updated(tree);                                                     \
	}                                                                                          \
                                                                                                   \
	/* The first that overlaps [start, last] and comes after a node, NULL for any. */          \
	static struct rb_node *PREFIX##_search(struct rb_node *tree, struct rb_node *after,        \
					       LIMIT start, LIMIT last)                            \
	{                                                                                          \
		struct rb_node *found;                                                             \
                                                                                                   \
		if (!tree || PREFIX##_of(tree)->SUBTREE < start)                                   \
			return NULL;                                                               \
		if (!after || PREFIX##_before(after, tree)) {                                      \
			found = PREFIX##_search(tree->left, after, start, last);                   \
			if (found)                                                                 \
				return found;                                                      \
			if (START(PREFIX##_of(tree)) > last)                                       \
				return NULL;                                                       \
			if (LAST(PREFIX##_of(tree)) >= start)                                      \
				return tree;                                                       \
		}                                                                                  \
		return PREFIX##_search(tree->right, after, start, last);                           \
	}                                                                                          \
                                                                                                   \
	STATIC void PREFIX##_insert(TYPE *entry, struct rb_root_cached *root)                      \
	{                                                                                          \
		entry->NODE.root = root;                                                           \
		entry->NODE.sequence = ++root->inserted;                                           \
		root->root = PREFIX##_with(root->root, &entry->NODE);                              \
	}                                                                                          \
                                                                                                   \
	STATIC void PREFIX##_remove(TYPE *entry, struct rb_root_cached *root)                      \
	{                                                                                          \
		root->root = PREFIX##_without(root->root, &entry->NODE);                           \
	}                                                                                          \
                                                                                                   \
	STATIC TYPE *PREFIX##_iter_first(struct rb_root_cached *root, LIMIT start, LIMIT last)     \
	{                                                                                          \
		struct rb_node *found = PREFIX##_search(root->root, NULL, start, last);            \
                                                                                                   \
		return found ? PREFIX##_of(found) : NULL;                                          \
	}                                                                                          \
                                                                                                   \
	STATIC TYPE *PREFIX##_iter_next(TYPE *entry, LIMIT start, LIMIT last)                      \
	{                                                                                          \
		struct rb_node *found =                                                            \
			PREFIX##_search(entry->NODE.root->root, &entry->NODE, start, last);        \
                                                                                                   \
		return found ? PREFIX##_of(found) : NULL;                                          \
	}

#endif
