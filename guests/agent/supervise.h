/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The agent on a system that isn't its own: nothing of it may stay there. */
#ifndef SUPERVISE_H
#define SUPERVISE_H

/*
 * Has a child do the work, and returns when that has ended, in whatever way:
 * with no process of ours left, the module unloaded, and everything as it was.
 * Returns 0 when that was so, 1 when something could not be undone.
 */
int supervise(void (*work)(void));

/* What the child has changed and the supervisor is to undo. */
void supervise_loaded(void);
void supervise_mounted_debugfs(void);
void supervise_changed_printk(const char *before);

#endif
