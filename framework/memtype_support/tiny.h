/* SPDX-License-Identifier: MIT */
/* For small programs in a guest: no libc. They define run(), which doesn't return. */
#include <asm/fcntl.h>
#include <asm/unistd.h>
#include <linux/mman.h>

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 asm("r10") = d;
	register long r8 asm("r8") = e;
	register long r9 asm("r9") = f;
	long result;

	asm volatile("syscall"
		     : "=a"(result)
		     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return result;
}

/* stack[0] is argc, argv begins behind it. */
__attribute__((noreturn, used)) void run(char **stack);

__attribute__((naked, noreturn)) void _start(void)
{
	asm("mov %rsp, %rdi\n\tand $-16, %rsp\n\tcall run");
}
