// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A program whose counters are what a kernel's are: it writes them as kernel/gcov/gcc_4_7.c does, and they are
 * kept by no library of gcc's. Linked with profiled units, it runs classify() for each argument.
 */
#include <stdio.h>
#include <stdlib.h>

#if __GNUC__ >= 14
#define COUNTERS 9
#elif __GNUC__ >= 10
#define COUNTERS 8
#else
#define COUNTERS 9
#endif
#define UNIT (__GNUC__ >= 12 ? 4 : 1)

struct counters {
	unsigned int num;
	long long *values;
};

struct function {
	const struct unit *key;
	unsigned int ident, lineno_checksum, cfg_checksum;
	struct counters counters[1];
};

struct unit {
	unsigned int version;
	struct unit *next;
	unsigned int stamp;
#if __GNUC__ >= 12
	unsigned int checksum;
#endif
	const char *name;
	void *merge[COUNTERS];
	unsigned int n_functions;
	struct function **functions;
};

int classify(int number);

static struct unit *units;

void __gcov_init(struct unit *unit)
{
	unit->next = units;
	units = unit;
}

void __gcov_exit(void)
{
}

void __gcov_merge_add(void)
{
}

static void word(unsigned int value)
{
	fwrite(&value, sizeof(value), 1, stdout);
}

static void write_unit(const struct unit *unit)
{
	unsigned int n, k;

	word(0x67636461);
	word(unit->version);
	word(unit->stamp);
#if __GNUC__ >= 12
	word(unit->checksum);
#endif
	for (n = 0; n < unit->n_functions; n++) {
		const struct function *function = unit->functions[n];

		word(0x01000000);
		word(3 * UNIT);
		word(function->ident);
		word(function->lineno_checksum);
		word(function->cfg_checksum);
		word(0x01a10000);
		word(function->counters[0].num * 2 * UNIT);
		for (k = 0; k < function->counters[0].num; k++) {
			word(function->counters[0].values[k]);
			word(function->counters[0].values[k] >> 32);
		}
	}
}

int main(int argc, char **argv)
{
	for (int n = 1; n < argc; n++)
		classify(atoi(argv[n]));
	/* In the order of their names, as the shell in a guest prints them: the linker's is the other way round. */
	for (; units; units = units->next)
		write_unit(units);
	return 0;
}
