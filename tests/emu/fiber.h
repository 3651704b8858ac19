/* Fibers, which have stacks of their own, run when they are entered and stop when they yield. */
#ifndef DEQ_TESTS_EMU_FIBER_H
#define DEQ_TESTS_EMU_FIBER_H

struct emu_fiber;

/* A fiber that will call entry(arg), which must never return. It lives as long as the program. */
emu_fiber *emu_fiber_make(void (*entry)(void *), void *arg);
/* Runs it until it yields. */
void emu_fiber_enter(emu_fiber *fiber);
/* Back to where the running fiber was entered. */
void emu_fiber_yield();
/* Whether p lies in the guard page under a fiber's stack, which means that the stack has
 * overflowed. */
bool emu_fiber_overflow(const void *p);

/* ThreadSanitizer sees each fiber as a thread of its own, and switching between them orders
 * nothing. Only what is released and acquired here does. So it finds in fibers what it finds in
 * real threads (test_emu_races_tsan.cpp runs the same text as both), in any order and reproducibly.
 * It does so in a child process too, which real threads do not survive. Without ThreadSanitizer
 * these do nothing. */
void emu_release(void *at);
void emu_acquire(void *at);

#endif
