/*
 * The unwinder that std names on musl, for a program in which nothing unwinds: a panic aborts. What is left are back
 * traces, which errors capture where RUST_BACKTRACE is set; these are empty (a stripped binary has no names to show).
 * Whatever else would need a real unwinder fails to link. Interface: the Itanium C++ ABI, "Exception Handling", level I.
 */
#include <stddef.h>
#include <stdint.h>

#define URC_END_OF_STACK 5

int _Unwind_Backtrace(void *trace, void *argument)
{
	(void)trace, (void)argument;
	return URC_END_OF_STACK;
}

uintptr_t _Unwind_GetIP(void *context)
{
	(void)context;
	return 0;
}

uintptr_t _Unwind_GetCFA(void *context)
{
	(void)context;
	return 0;
}

void *_Unwind_FindEnclosingFunction(void *address)
{
	(void)address;
	return NULL;
}
