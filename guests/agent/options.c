// SPDX-License-Identifier: GPL-2.0 OR MIT
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

/* A lease of a day is none. */
#define LONGEST_LEASE 86400

struct options options = {
	.port = "/dev/ttyS1",
	.module = "/memtype.ko",
	.allow = "all",
	.printk = "8",
	.shell = true,
};

bool options_own_machine(void)
{
	return !strcmp(options.allow, "all");
}

/* The agent's working directory is / and not that of its user. */
static bool options_is_absolute(const char *path)
{
	return !path || *path == '/';
}

const char *options_parse(int count, char **arguments)
{
	static const struct option known[] = {
		{ "port", required_argument, NULL, 'p' },   { "module", required_argument, NULL, 'm' },
		{ "allow", required_argument, NULL, 'a' },  { "folder", required_argument, NULL, 'f' },
		{ "printk", required_argument, NULL, 'k' }, { "lease", required_argument, NULL, 'l' },
		{ "shell", no_argument, NULL, 's' },	    { 0 },
	};
	unsigned long lease = 0;
	char *end;
	int which;

	/* Nobody who forgets one does harm. */
	options = (struct options){ .allow = "none" };
	opterr = 0;
	while ((which = getopt_long(count, arguments, "", known, NULL)) != -1)
		switch (which) {
		case 'p':
			options.port = optarg;
			break;
		case 'm':
			options.module = optarg;
			break;
		case 'a':
			options.allow = optarg;
			break;
		case 'f':
			options.folder = optarg;
			break;
		case 'k':
			options.printk = optarg;
			break;
		case 'l':
			lease = strtoul(optarg, &end, 10);
			if (!*optarg || *end || lease > LONGEST_LEASE)
				return "--lease wants seconds, a day's at most";
			break;
		case 's':
			options.shell = true;
			break;
		default:
			return "there is no such option, or its value is missing";
		}
	options.lease = lease;
	if (optind < count)
		return "there are arguments that are no options";
	if (!options.port || !options.module)
		return "--port and --module are needed";
	if (!options_is_absolute(options.module) || !options_is_absolute(options.folder) ||
	    (!options_is_absolute(options.port) && strcmp(options.port, "-")))
		return "paths begin with /";
	/* It becomes an argument of the module, where a blank begins another. */
	if (!*options.allow || strpbrk(options.allow, " \t\n\"'"))
		return "--allow wants all, none, or ranges with commas between them";
	return NULL;
}

void options_usage(const char *wrong)
{
	fprintf(stderr,
		"memtype agent: %s\n"
		"usage: agent --port DEVICE|- --module FILE [--allow all|none|START-END,...]\n"
		"             [--folder DIR] [--printk LEVEL] [--lease SECONDS] [--shell]\n"
		"  --port    a serial device, or - for standard input and output\n"
		"  --module  memtype.ko for the kernel that runs\n"
		"  --allow   physical memory that tests may use (default: none)\n"
		"  --folder  removed at the end, with the files in it\n"
		"  --printk  the console's log level meanwhile\n"
		"  --lease   end when the host says nothing for so long\n"
		"  --shell   the host may run commands\n",
		wrong);
}
