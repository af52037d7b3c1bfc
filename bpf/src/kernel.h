/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The few declarations of the kernel's BPF interface that the programs use;
 * numbers from include/uapi/linux/bpf.h. Nothing comes from the build host, so
 * the objects are the same wherever they are built.
 */
#ifndef FGTRACE_KERNEL_H
#define FGTRACE_KERNEL_H

#include "wire.h"

#define bool _Bool
#define true 1
#define false 0

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Members of a map definition in BTF. */
#define MAP_UINT(name, value) int (*name)[value]
#define MAP_TYPE(name, type) typeof(type) *name

#define barrier() asm volatile("" ::: "memory")

enum { BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_ARRAY = 2, BPF_MAP_TYPE_PERCPU_ARRAY = 6, BPF_MAP_TYPE_CGROUP_ARRAY = 8, BPF_MAP_TYPE_RINGBUF = 27 };
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { EEXIST = 17, MAX_ERRNO = 4095 };
enum { BPF_RB_NO_WAKEUP = 1 };

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*const bpf_get_current_comm)(void *buf, u32 size) = (void *)16;
static u64 (*const bpf_get_current_task)(void) = (void *)35;
static long (*const bpf_current_task_under_cgroup)(void *map, u32 index) = (void *)37;
static long (*const bpf_get_stack)(void *ctx, void *buf, u32 size, u64 flags) = (void *)67;
static long (*const bpf_probe_read_kernel)(void *dst, u32 size, const void *src) = (void *)113;
static long (*const bpf_probe_read_user_str)(void *dst, u32 size, const void *src) = (void *)114;
static long (*const bpf_probe_read_kernel_str)(void *dst, u32 size, const void *src) = (void *)115;
static void *(*const bpf_ringbuf_reserve)(void *ringbuf, u64 size, u64 flags) = (void *)131;
static void *(*const bpf_get_current_task_btf)(void) = (void *)158;
static u64 (*const bpf_get_attach_cookie)(void *ctx) = (void *)174;
static long (*const bpf_get_func_ret)(void *ctx, u64 *value) = (void *)184;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
/*
 * The loader makes these calls of kfuncs. bpf_session_is_return and
 * bpf_session_cookie take no argument on some kernels.
 */
static u64 (*const session_is_return)(void *ctx) = (void *)CONFIG_IS_RETURN;
static u64 *(*const session_cookie)(void *ctx) = (void *)CONFIG_COOKIE;
static void (*const irq_save)(u64 *flags) = (void *)CONFIG_IRQ_SAVE;
static void (*const irq_restore)(u64 *flags) = (void *)CONFIG_IRQ_RESTORE;

#endif
