/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* How the agent was started. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>

struct options {
	const char *port;	/* a serial device, or "-" for standard input and output */
	const char *module;
	const char *allow;	/* the module's parameter "allowed" */
	const char *folder;	/* removed at the end with the files in it; NULL: nothing is */
	const char *printk;	/* the console's log level meanwhile; NULL: as it is */
	unsigned int lease;	/* seconds that the host may be silent; 0: any time */
	bool shell;		/* may the host run commands? */
};

/* What the guest of our own is started with, where the agent is init. */
extern struct options options;

/* Is the machine ours to destroy? */
bool options_own_machine(void);

/* Fills options. Returns what is wrong, NULL when nothing is. */
const char *options_parse(int count, char **arguments);
void options_usage(const char *wrong);

#endif
