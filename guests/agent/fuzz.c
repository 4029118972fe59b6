// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Nonsense for the module: random ioctls, and mappings of its device. What
 * step n of a seed does depends on nothing else, so that a crash can be had
 * again.
 *
 * What may succeed is bounded by what a healthy kernel survives. The policy is
 * enforce: what the verifier refuses would have Linux warn, as it should. No
 * driver maps RAM (ioremap() of it warns by itself), nobody touches what is
 * mapped, since it may be anybody's, and no mapping is so large that its page
 * tables alone would fill the memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define MOST_WINDOWS 32
/* 16 MiB, as much as the test device has. */
#define MOST_PAGES 4096
/* No CPU has more physical address bits (Intel SDM, "CPUID", leaf 80000008H): malformed everywhere. */
#define BEYOND_MEMORY (1ULL << 52)
/* 256 GiB: above what a guest has, below what it can address. */
#define NOWHERE (1ULL << 38)
#define EVERY_RESET 256

struct progress {
	uint64_t done;
	uint64_t succeeded;
	uint64_t refused;
	uint64_t mapped;
};

struct window {
	char *address;
	size_t length;
};

static struct progress *progress;
static struct window windows[MOST_WINDOWS];
/* The RAM that the module gave last; it may be gone. */
static struct memtype_ram ram;
static uint64_t dice;
/* Two pages, of which the second can't be read. */
static char *edge;

static const unsigned long commands[] = {
	MEMTYPE_VERIFY,	     MEMTYPE_MAP,	MEMTYPE_RELEASE,     MEMTYPE_READ_MAPPING,
	MEMTYPE_PREPARE,     MEMTYPE_RESULT,	MEMTYPE_ADOPT,	     MEMTYPE_READ_PAGE_TABLE,
	MEMTYPE_ALLOCATE_RAM, MEMTYPE_TRACKED,	MEMTYPE_LOOKUP,	     MEMTYPE_SET_OWNER,
	MEMTYPE_SET_POLICY,  MEMTYPE_ZAP,	MEMTYPE_KILL_AT,     MEMTYPE_READ_REGISTERS,
	MEMTYPE_SEED,	     MEMTYPE_OBSERVATION, MEMTYPE_OBSERVED,  MEMTYPE_OBSERVE,
	MEMTYPE_BENCHMARK,   MEMTYPE_FAULT,	MEMTYPE_FAULT_CALLS, MEMTYPE_FAULT_END,
	MEMTYPE_MAY_USE,     MEMTYPE_KERNEL_PAGES, MEMTYPE_STATISTICS, MEMTYPE_FREE_RAM,
	MEMTYPE_MAPPED,	     MEMTYPE_MM_LIST,
};

/* splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014. */
static uint64_t fuzz_roll(void)
{
	uint64_t z = dice += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static uint64_t fuzz_below(uint64_t limit)
{
	return fuzz_roll() % limit;
}

static uint64_t fuzz_some_address(void)
{
	switch (fuzz_below(8)) {
	case 0:
		return fuzz_roll();
	case 1:
		return NOWHERE + fuzz_below(64) * PAGE_BYTES;
	case 2:
		return -(PAGE_BYTES << fuzz_below(20));
	case 3:
		return BEYOND_MEMORY >> fuzz_below(16);
	case 4:
		return fuzz_below(1 << 16) * PAGE_BYTES;
	case 5:
		/* What has a struct page is mapped in ways of its own. */
		if (ram.pages)
			return ram.start + fuzz_below(ram.pages) * PAGE_BYTES;
	}
	return test_device.start + fuzz_below(test_device.size / PAGE_BYTES) * PAGE_BYTES;
}

static uint64_t fuzz_some_number(void)
{
	switch (fuzz_below(8)) {
	case 0:
		return fuzz_roll();
	case 1:
		return 1ULL << fuzz_below(64);
	case 2:
		return -fuzz_below(16);
	case 3:
		return fuzz_some_address();
	case 4:
		return (uintptr_t)windows[fuzz_below(MOST_WINDOWS)].address;
	default:
		return fuzz_below(16);
	}
}

static void fuzz_fill_request(struct memtype_request *request)
{
	static const unsigned int memtypes[] = { MEMTYPE_UC, MEMTYPE_WC, MEMTYPE_WT, MEMTYPE_WP,
						 MEMTYPE_WB, MEMTYPE_UC_MINUS };

	request->start = fuzz_some_address();
	request->pages = fuzz_below(4) ? fuzz_below(8) : fuzz_some_number();
	request->memtype = fuzz_below(16) ? memtypes[fuzz_below(6)] : fuzz_roll();
	request->kind = fuzz_below(8) ? fuzz_below(2) : fuzz_roll();
	request->call = fuzz_below(8) ? fuzz_below(MEMTYPE_CALLS) : fuzz_roll();
}

/* What would harm a kernel that does all it is asked is made less. */
static void fuzz_tame(unsigned long command, void *content)
{
	struct memtype_benchmark *benchmark = content;
	struct memtype_request *request = content;
	struct memtype_policy *policy = content;
	struct memtype_seed *seed = content;
	struct memtype_kill *kill = content;

	switch (command) {
	case MEMTYPE_MAP:
	case MEMTYPE_PREPARE:
		if (request->start >= BEYOND_MEMORY || request->pages >= BEYOND_MEMORY / PAGE_BYTES)
			break;
		request->pages %= MOST_PAGES;
		/* A driver's mapping must not meet RAM, which a guest has at the bottom. */
		if (command == MEMTYPE_MAP && request->call == MEMTYPE_CALL_IOREMAP &&
		    request->start < test_device.start)
			request->start |= NOWHERE;
		break;
	case MEMTYPE_SET_POLICY:
		policy->enforce = 1;
		break;
	case MEMTYPE_KILL_AT:
		kill->kill_point %= 8;
		break;
	case MEMTYPE_SEED:
		/* The one number that is right would make the contents count. */
		seed->sequence |= 1ULL << 63;
		break;
	case MEMTYPE_BENCHMARK:
		if (benchmark->records <= 100000)
			benchmark->records %= 50;
		if (benchmark->operations <= 100000)
			benchmark->operations %= 5;
		benchmark->rounds = benchmark->rounds > MEMTYPE_BENCHMARK_ROUNDS ? benchmark->rounds : 1;
		break;
	}
}

static void fuzz_count(long result)
{
	if (result < 0)
		progress->refused++;
	else
		progress->succeeded++;
}

static void fuzz_enforce(void)
{
	struct memtype_policy policy = { .enforce = 1 };

	ioctl(device_fd, MEMTYPE_SET_POLICY, &policy);
}

static void fuzz_fill(char content[PAGE_BYTES], unsigned long command)
{
	size_t n;

	for (n = 0; n + sizeof(uint64_t) <= _IOC_SIZE(command); n += sizeof(uint64_t)) {
		uint64_t word = fuzz_some_number();

		memcpy(content + n, &word, sizeof(word));
	}
	if (fuzz_below(4) &&
	    (command == MEMTYPE_VERIFY || command == MEMTYPE_MAP || command == MEMTYPE_PREPARE))
		fuzz_fill_request((struct memtype_request *)content);
	fuzz_tame(command, content);
}

static void fuzz_send_known(void)
{
	/* What makes most for the module to keep comes most often. */
	unsigned long command =
		fuzz_below(4) ? MEMTYPE_MAP :
				commands[fuzz_below(ARRAY_SIZE(commands))];
	char content[PAGE_BYTES] = { 0 };
	long result;

	/* It ends this process sooner or later. */
	if (command == MEMTYPE_KILL_AT && fuzz_below(16))
		return;
	fuzz_fill(content, command);
	result = ioctl(device_fd, command, content);
	fuzz_count(result);
	if (command == MEMTYPE_ALLOCATE_RAM && !result)
		memcpy(&ram, content, sizeof(ram));
}

/* The right content, where it can't be read or written. */
static void fuzz_send_badly_placed(void)
{
	unsigned long command = commands[fuzz_below(ARRAY_SIZE(commands))];
	size_t size = _IOC_SIZE(command);
	char content[PAGE_BYTES] = { 0 };
	uintptr_t place;

	fuzz_fill(content, command);
	place = (uintptr_t)edge + PAGE_BYTES - fuzz_below(size + 1);
	switch (fuzz_below(4)) {
	case 0:
		place = 0;
		break;
	case 1:
		place = fuzz_roll();
		break;
	default:
		memcpy((void *)place, content, (uintptr_t)edge + PAGE_BYTES - place);
	}
	fuzz_count(ioctl(device_fd, command, place));
}

static bool fuzz_is_known(unsigned long command)
{
	size_t n;

	for (n = 0; n < ARRAY_SIZE(commands); n++)
		if (command == commands[n])
			return true;
	/* The second calls any function of the kernel, which is no way to stay alive. */
	return command == MEMTYPE_RESET || command == MEMTYPE_KERNEL_CALL;
}

static void fuzz_send_unknown(void)
{
	char content[1 << _IOC_SIZEBITS];
	unsigned long command;
	size_t n;

	if (fuzz_below(2))
		command = fuzz_roll() & 0xffffffff;
	else
		command = _IOC(fuzz_below(4), MEMTYPE_IOC, 0x40 + fuzz_below(0x40),
			       fuzz_below(1 << _IOC_SIZEBITS));
	/* It wouldn't be tame. */
	if (fuzz_is_known(command))
		return;
	for (n = 0; n < sizeof(content); n += 64)
		content[n] = fuzz_roll();
	fuzz_count(ioctl(device_fd, command, content));
}

static void fuzz_keep(char *address, size_t length)
{
	struct window *window = &windows[fuzz_below(MOST_WINDOWS)];

	if (address == MAP_FAILED)
		return;
	/* No longer all its own, perhaps: then it takes from its neighbours, which are windows as well. */
	if (window->address)
		munmap(window->address, window->length);
	*window = (struct window){ address, (length + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1) };
	progress->mapped++;
}

static void fuzz_map_prepared(void)
{
	struct memtype_prepare next = { 0 };
	int flags = fuzz_below(4) ? MAP_SHARED : MAP_PRIVATE;
	size_t length;
	char *address;

	fuzz_fill_request(&next.request);
	if (fuzz_below(2))
		next.request.start &= ~(PAGE_BYTES - 1);
	fuzz_tame(MEMTYPE_PREPARE, &next);
	next.part_pages = fuzz_below(4) ? next.request.pages : fuzz_some_number();
	next.part_first = fuzz_below(4) ? 0 : fuzz_some_number();
	next.map_method = fuzz_below(4) ? fuzz_below(MEMTYPE_METHODS) : fuzz_roll();
	fuzz_count(ioctl(device_fd, MEMTYPE_PREPARE, &next));
	length = fuzz_below(8) ? next.request.pages * PAGE_BYTES : fuzz_some_number();
	address = mmap(NULL, length, fuzz_below(8), flags, device_fd,
		       fuzz_below(8) ? next.request.start : fuzz_some_address());
	fuzz_keep(address, length);
}

/* Takes a mapping apart, moves it, copies it. */
static void fuzz_change_window(void)
{
	struct window *window = &windows[fuzz_below(MOST_WINDOWS)];
	size_t pages = window->length / PAGE_BYTES, offset, length, new_length;
	char *moved;
	pid_t child;

	if (!pages)
		return;
	offset = fuzz_below(pages) * PAGE_BYTES;
	length = (1 + fuzz_below(pages - offset / PAGE_BYTES)) * PAGE_BYTES;
	switch (fuzz_below(5)) {
	case 0:
		munmap(window->address + offset, length);
		break;
	case 1:
		mprotect(window->address + offset, length, fuzz_below(8));
		break;
	case 2:
		new_length = fuzz_below(pages + 2) * PAGE_BYTES;
		moved = mremap(window->address + offset, length, new_length, MREMAP_MAYMOVE);
		fuzz_keep(moved, new_length);
		break;
	case 3:
		madvise(window->address + offset, length, fuzz_below(32));
		break;
	default:
		child = fork();
		if (!child)
			_exit(0);
		while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
	}
}

static void fuzz_reopen(void)
{
	int file = open("/dev/" MEMTYPE_DEVICE, O_RDWR | O_CLOEXEC);

	if (file < 0)
		return;
	close(device_fd);
	device_fd = file;
}

static void fuzz_step(uint64_t seed, uint64_t number)
{
	size_t length;

	dice = seed ^ number * 0xd1342543de82ef95;
	if (number % EVERY_RESET == EVERY_RESET - 1) {
		ioctl(device_fd, MEMTYPE_RESET);
		fuzz_enforce();
		return;
	}
	switch (fuzz_below(16)) {
	case 0:
	case 1:
	case 2:
		fuzz_map_prepared();
		break;
	case 3:
		length = fuzz_some_number();
		fuzz_keep(mmap(NULL, length, fuzz_below(8), MAP_SHARED, device_fd,
			       fuzz_some_address()),
			  length);
		break;
	case 4:
	case 5:
		fuzz_change_window();
		break;
	case 6:
	case 7:
		fuzz_send_badly_placed();
		break;
	case 8:
		fuzz_send_unknown();
		break;
	case 9:
		fuzz_reopen();
		break;
	default:
		fuzz_send_known();
	}
}

static void fuzz_run_steps(uint64_t seed, uint64_t steps)
{
	/* A file of its own: the agent's must not be prepared for anything. */
	device_fd = open("/dev/" MEMTYPE_DEVICE, O_RDWR | O_CLOEXEC);
	edge = mmap(NULL, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (device_fd < 0 || edge == MAP_FAILED || mprotect(edge + PAGE_BYTES, PAGE_BYTES, PROT_NONE))
		_exit(1);
	fuzz_enforce();
	/* Counted before it is made: the step that kills is not made again. */
	while (progress->done < steps)
		fuzz_step(seed, progress->done++);
	_exit(0);
}

void fuzz_run(const struct request *request, struct buffer *reply)
{
	struct memtype_observe observe = { .armed = 1 };
	uint64_t seed, steps, killed = 0;
	int status = 0;
	pid_t child;

	if (!request_number(request, "seed", &seed, reply) ||
	    !request_number(request, "steps", &steps, reply))
		return;
	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			0);
	if (progress == MAP_FAILED) {
		buffer_error(reply, "fuzz: %s", strerror(errno));
		return;
	}
	do {
		child = fork();
		if (!child)
			fuzz_run_steps(seed, steps);
		while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
			;
		/* It was told to be killed in the middle of something. */
		if (child > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
			killed++;
		else
			break;
	} while (progress->done < steps);
	ioctl(device_fd, MEMTYPE_RESET);
	ioctl(device_fd, MEMTYPE_OBSERVE, &observe);
	if (child < 0 || (status && progress->done < steps))
		buffer_error(reply, "fuzz: step %llu of seed %llu ended with status %#x",
			     (unsigned long long)progress->done, (unsigned long long)seed, status);
	else
		buffer_print(reply,
			     "{\"steps\": %llu, \"succeeded\": %llu, \"refused\": %llu, \"mapped\": %llu, \"killed\": %llu}",
			     (unsigned long long)progress->done,
			     (unsigned long long)progress->succeeded,
			     (unsigned long long)progress->refused,
			     (unsigned long long)progress->mapped, (unsigned long long)killed);
	munmap(progress, sizeof(*progress));
}
