/* SPDX-License-Identifier: MIT */
/* Doubly linked rings under the kernel's names. */
#ifndef HOST_LINUX_LIST_H
#define HOST_LINUX_LIST_H

#include <linux/kernel.h>

struct list_head {
	struct list_head *next, *prev;
};

static inline void INIT_LIST_HEAD(struct list_head *list)
{
	list->next = list->prev = list;
}

static inline void list_add_tail(struct list_head *entry, struct list_head *list)
{
	entry->next = list;
	entry->prev = list->prev;
	list->prev->next = entry;
	list->prev = entry;
}

static inline void list_del(struct list_head *entry)
{
	entry->prev->next = entry->next;
	entry->next->prev = entry->prev;
	/* A second list_del() faults, as it does in the kernel. */
	entry->next = entry->prev = NULL;
}

#define list_entry_(pointer, entry, member) container_of(pointer, __typeof__(*(entry)), member)

#define list_for_each_entry(entry, list, member)                                                   \
	for (entry = list_entry_((list)->next, entry, member); &entry->member != (list);           \
	     entry = list_entry_(entry->member.next, entry, member))

#define list_for_each_entry_safe(entry, after, list, member)                                       \
	for (entry = list_entry_((list)->next, entry, member),                                     \
	    after = list_entry_(entry->member.next, entry, member);                                \
	     &entry->member != (list);                                                             \
	     entry = after, after = list_entry_(entry->member.next, entry, member))

#endif
