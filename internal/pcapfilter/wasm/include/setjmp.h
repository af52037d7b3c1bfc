/* WebAssembly has no setjmp: what would jump ends the call. */
#ifndef SHIM_SETJMP_H
#define SHIM_SETJMP_H

typedef int jmp_buf[1];

#define setjmp(env) ((void)(env), 0)

__attribute__((import_module("host"), import_name("fail"), noreturn)) void host_fail(void);

#define longjmp(env, value) ((void)(env), (void)(value), host_fail())

#endif
