// SPDX-License-Identifier: GPL-2.0
/*
 * The programs that are attached to a traced function, and the two that serve
 * them. One copy of on_entry and on_exit is loaded per function, with its
 * constants written in (see CONFIG in wire.h).
 *
 * What they call must never be traced by ourselves: tracer/plan/deny.go.
 */
#include "kernel.h"

struct {
	MAP_UINT(type, BPF_MAP_TYPE_RINGBUF);
	MAP_UINT(max_entries, 8 << 20); /* bytes; set by the loader */
} events SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_UINT(max_entries, 1); /* targets; set by the loader */
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct counters);
} counts SEC(".maps");

/* The processes asked for: tgids. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_UINT(max_entries, 32768);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u8);
} pids SEC(".maps");

/*
 * The calls whose entry was lost, by frame, until they return: so that an exit
 * is never joined to an older call that had the same frame. Empty, and never
 * looked at, as long as nothing is lost.
 */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_UINT(max_entries, 16384);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, u8);
} lost_frames SEC(".maps");

struct control control;

/* The calls under way, by frame, if CONFIG_SLOTS. One that finds its slot taken
 * is sent as two records. */
struct slot slots[1 << SLOT_BITS];

/* Set while one of our programs runs on this CPU; only used with CONFIG_GUARD. */
#define MAX_CPUS 8192
u8 busy[MAX_CPUS];

#define CONFIG(id)                                                             \
	({                                                                     \
		u64 value;                                                     \
		asm("%0 = %1 ll" : "=r"(value) : "i"(CONFIG_MARK + (id)));     \
		value;                                                         \
	})

/*
 * A load of ctx[i] with the offset in the instruction: the verifier refuses a
 * context pointer that was added to, which is what clang makes of the plain C.
 */
#define CTX_WORD(ctx, i)                                                       \
	({                                                                     \
		u64 word;                                                      \
		asm volatile("%0 = *(u64 *)(%1 + %2)"                          \
			     : "=r"(word)                                      \
			     : "r"(ctx), "i"((i) * 8));                        \
		word;                                                          \
	})

#define COUNT(member)                                                          \
	({                                                                     \
		u32 key = CONFIG(CONFIG_TARGET);                               \
		struct counters *c = bpf_map_lookup_elem(&counts, &key);       \
		if (c)                                                         \
			c->member++;                                           \
	})

/* Whether an interrupt is being served; unknown counts as one, and is shown. */
INLINE bool in_interrupt(void)
{
	u64 at = control.preempt_count;
	u32 count = 0;

	if (!control.interrupt_mask)
		return true;
	if (control.percpu_base) {
		u64 offset = 0;
		u64 slot = control.percpu_base + 8 * bpf_get_smp_processor_id();

		if (bpf_probe_read_kernel(&offset, sizeof(offset), (void *)slot))
			return true;
		at += offset;
	} else {
		at += bpf_get_current_task();
	}
	if (bpf_probe_read_kernel(&count, sizeof(count), (void *)at))
		return true;
	return count & control.interrupt_mask;
}

/* Whether this call is to be shown. */
INLINE bool wanted(u64 pid_tgid)
{
	u32 tgid = pid_tgid >> 32;

	if (CONFIG(CONFIG_SELF) && UNLIKELY(tgid == CONFIG(CONFIG_SELF)) && !in_interrupt()) {
		COUNT(self);
		return false;
	}
	if (CONFIG(CONFIG_PIDS) && !bpf_map_lookup_elem(&pids, &tgid))
		return false;
	if (CONFIG(CONFIG_COMM)) {
		u64 comm[2] = {};

		bpf_get_current_comm(comm, sizeof(comm));
		if (comm[0] != CONFIG(CONFIG_COMM_LO) || comm[1] != CONFIG(CONFIG_COMM_HI))
			return false;
	}
	return true;
}

INLINE void lose_entry(void *ctx)
{
	u64 frame = (u64)ctx;
	u8 lost = 1;

	COUNT(lost_entries);
	__sync_fetch_and_add(&control.losses, 1);
	if (bpf_map_update_elem(&lost_frames, &frame, &lost, BPF_ANY))
		control.unsure = bpf_ktime_get_ns();
}

INLINE void lose_exit(void *ctx)
{
	u64 frame = (u64)ctx;

	COUNT(lost_exits);
	__sync_fetch_and_add(&control.losses, 1);
	bpf_map_delete_elem(&lost_frames, &frame);
}

/* Whether the entry of the call at this frame was lost; forgets the frame. */
INLINE bool entry_lost(void *ctx)
{
	u64 frame = (u64)ctx;

	if (!control.losses)
		return false;
	return !bpf_map_delete_elem(&lost_frames, &frame);
}

INLINE void identify(struct record *r, void *ctx, u64 pid_tgid, enum kind kind, bool lost)
{
	r->frame = (u64)ctx;
	r->pid_tgid = pid_tgid;
	r->target = CONFIG(CONFIG_TARGET);
	r->cpu = bpf_get_smp_processor_id();
	r->kind = kind;
	r->flags = lost ? FLAG_ENTRY_LOST : 0;
	r->frames = 0;
}

INLINE void read_string(struct string *s, u64 address)
{
	s32 n = bpf_probe_read_kernel_str(s->data, STRING_DATA, (void *)address);

	/* Not every kernel's BTF marks a user pointer: try the other side. */
	if (n < 0)
		n = bpf_probe_read_user_str(s->data, STRING_DATA, (void *)address);
	s->len = n;
}

INLINE void read_strings(struct string *s, u64 *words)
{
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_WORDS; i++) {
		/* Beyond the last word there is no bit, and no memory either. */
		if (i < CONFIG(CONFIG_WORDS) && CONFIG(CONFIG_STRINGS) >> i & 1)
			read_string(s++, words[i]);
	}
}

INLINE struct slot *slot_of(void *ctx)
{
	u32 low;

	/* The verifier takes half a context pointer for a number, and only that. */
	asm volatile("%0 = %1" : "=w"(low) : "w"((u32)(u64)ctx));
	return &slots[low * 0x9e3779b1U >> (32 - SLOT_BITS)];
}

INLINE void read_words(u64 *words, void *ctx)
{
	if (CONFIG(CONFIG_COPY_CTX)) {
		bpf_probe_read_kernel(words, CONFIG(CONFIG_WORDS) * 8, ctx);
		return;
	}
#define WORD(i)                                                                \
	if (CONFIG(CONFIG_WORDS) > (i))                                        \
		words[i] = CTX_WORD(ctx, i);
	WORD(0) WORD(1) WORD(2) WORD(3) WORD(4) WORD(5)
	WORD(6) WORD(7) WORD(8) WORD(9) WORD(10) WORD(11)
#undef WORD
}

INLINE s64 read_stack(void *frames, void *ctx)
{
	/* To skip our own frames would save nothing: they are unwound anyway. */
	long n = bpf_get_stack(ctx, frames, FEW_FRAMES * 8, 0);

	if (UNLIKELY(n == FEW_FRAMES * 8))
		n = bpf_get_stack(ctx, frames, MAX_FRAMES * 8, 0);
	return n < 0 ? n : n / 8;
}

INLINE u64 read_retval(void *ctx)
{
	u64 retval = 0;

	if (!CONFIG(CONFIG_RETVAL))
		return 0;
	if (CONFIG(CONFIG_COPY_CTX)) {
		bpf_probe_read_kernel(&retval, sizeof(retval), ctx + 8 * CONFIG(CONFIG_WORDS));
		return retval;
	}
	return CTX_WORD(ctx, CONFIG_RETVAL_WORD);
}

/* Keeps an entry until the exit. False: another call has the slot. */
INLINE bool keep(void *ctx, u64 pid_tgid)
{
	struct slot *s = slot_of(ctx);
	u64 frame = (u64)ctx;

	if (UNLIKELY(s->frame == frame)) /* an older call, whose exit we did not see */
		COUNT(no_exit);
	else if (s->frame || __sync_val_compare_and_swap(&s->frame, 0, frame))
		return false;
	s->pid_tgid = pid_tgid;
	s->target = CONFIG(CONFIG_TARGET);
	s->cpu = bpf_get_smp_processor_id();
	bpf_get_current_comm(s->comm, COMM_SIZE);
	read_words(s->words, ctx);
	s->time = bpf_ktime_get_ns();
	return true;
}

INLINE void entered(void *ctx)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct record *r;
	u64 *words;

	if (!wanted(pid_tgid))
		return;
	if (CONFIG(CONFIG_SLOTS) && keep(ctx, pid_tgid))
		return;
	r = bpf_ringbuf_reserve(&events, CONFIG(CONFIG_RECORD_SIZE), 0);
	if (UNLIKELY(!r)) {
		lose_entry(ctx);
		return;
	}
	entry_lost(ctx); /* what an older call at this frame left behind */
	identify(r, ctx, pid_tgid, KIND_ENTRY, false);
	bpf_get_current_comm(r->comm, COMM_SIZE);
	words = (u64 *)(r + 1);
	read_words(words, ctx);
	if (CONFIG(CONFIG_STRINGS))
		read_strings((struct string *)(words + CONFIG(CONFIG_WORDS)), words);
	if (CONFIG(CONFIG_STACK_AT))
		r->frames = read_stack((u8 *)r + CONFIG(CONFIG_STACK_AT), ctx);
	r->time = bpf_ktime_get_ns();
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/*
 * Sends a kept entry with its exit. The stack is that of the entry: the function
 * has left its own frame, and those of its callers have not moved. False: the
 * entry is that of an older call, whose exit we did not see.
 */
INLINE bool returned(void *ctx, struct slot *s, u64 now, u64 pid_tgid)
{
	struct result *result;
	struct record *r;
	u64 *words;

	if (UNLIKELY(s->target != CONFIG(CONFIG_TARGET) || (u32)s->pid_tgid != (u32)pid_tgid)) {
		s->frame = 0;
		COUNT(no_exit);
		return false;
	}
	r = bpf_ringbuf_reserve(&events, CONFIG(CONFIG_RECORD_SIZE), 0);
	if (UNLIKELY(!r)) {
		s->frame = 0;
		COUNT(lost_entries);
		COUNT(lost_exits);
		return true;
	}
	r->time = s->time;
	r->frame = (u64)ctx;
	r->pid_tgid = s->pid_tgid;
	r->target = CONFIG(CONFIG_TARGET);
	r->cpu = s->cpu;
	r->kind = KIND_CALL;
	r->flags = 0;
	r->frames = 0;
	((u64 *)r->comm)[0] = ((u64 *)s->comm)[0];
	((u64 *)r->comm)[1] = ((u64 *)s->comm)[1];
	result = (struct result *)(r + 1);
	result->retval = read_retval(ctx);
	result->time = now;
	words = (u64 *)(result + 1);
#define WORD(i)                                                                \
	if (CONFIG(CONFIG_WORDS) > (i))                                        \
		words[i] = s->words[i];
	WORD(0) WORD(1) WORD(2) WORD(3) WORD(4) WORD(5)
	WORD(6) WORD(7) WORD(8) WORD(9) WORD(10) WORD(11)
#undef WORD
	s->frame = 0;
	if (CONFIG(CONFIG_STACK_AT))
		r->frames = read_stack((u8 *)r + CONFIG(CONFIG_STACK_AT), ctx);
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return true;
}

INLINE void left(void *ctx)
{
	u64 now = bpf_ktime_get_ns();
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct slot *s = slot_of(ctx);
	struct result *result;
	struct record *r;

	if (CONFIG(CONFIG_SLOTS) && s->frame == (u64)ctx && returned(ctx, s, now, pid_tgid))
		return;
	if (!wanted(pid_tgid))
		return;
	r = bpf_ringbuf_reserve(&events, sizeof(*r) + sizeof(*result), 0);
	if (UNLIKELY(!r)) {
		lose_exit(ctx);
		return;
	}
	identify(r, ctx, pid_tgid, KIND_EXIT, entry_lost(ctx));
	r->frames = control.unsure;
	result = (struct result *)(r + 1);
	result->retval = read_retval(ctx);
	result->time = now;
	r->time = now;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/*
 * Kernels before 5.12 (ca06f55b9002) let a program interrupt itself, to any
 * depth. There tracing programs run with preemption off, so one flag per CPU
 * is enough. Elsewhere this is dead code.
 */
INLINE u8 *enter_cpu(void)
{
	u8 *flag = &busy[bpf_get_smp_processor_id() & (MAX_CPUS - 1)];

	if (UNLIKELY(*flag)) {
		COUNT(recursion);
		return 0;
	}
	*flag = 1;
	return flag;
}

SEC("fentry")
int on_entry(void *ctx)
{
	u8 *flag = 0;

	if (!control.gate)
		return 0;
	if (CONFIG(CONFIG_GUARD)) {
		flag = enter_cpu();
		if (!flag)
			return 0;
	}
	entered(ctx);
	if (CONFIG(CONFIG_GUARD) && flag)
		*flag = 0;
	return 0;
}

SEC("fexit")
int on_exit(void *ctx)
{
	u8 *flag = 0;

	if (!control.gate)
		return 0;
	if (CONFIG(CONFIG_GUARD)) {
		flag = enter_cpu();
		if (!flag)
			return 0;
	}
	left(ctx);
	if (CONFIG(CONFIG_GUARD) && flag)
		*flag = 0;
	return 0;
}

/* sched_process_fork(parent, child): keeps the set of processes complete. */
SEC("raw_tp/sched_process_fork")
int on_fork(u64 *ctx)
{
	u32 parent = bpf_get_current_pid_tgid() >> 32;
	u32 child = 0;
	u8 present = 1;

	if (!(control.arm_fork && parent == CONFIG(CONFIG_SELF)) &&
	    !bpf_map_lookup_elem(&pids, &parent))
		return 0;
	if (bpf_probe_read_kernel(&child, sizeof(child), (void *)(ctx[1] + CONFIG(CONFIG_TASK_TGID))))
		return 0;
	/* A new thread of ours is not the command. */
	if (child == CONFIG(CONFIG_SELF))
		return 0;
	if (bpf_map_update_elem(&pids, &child, &present, BPF_ANY))
		__sync_fetch_and_add(&control.lost_pids, 1);
	return 0;
}

/* Run once by hand: the caller's tgid as the programs see it. */
SEC("raw_tp/self")
int whoami(void *ctx)
{
	return bpf_get_current_pid_tgid() >> 32;
}

/* Brings the types that only code uses into the BTF, for the generator. */
struct {
	struct record record;
	struct result result;
	struct string string;
	enum kind kind;
	enum flag flag;
	enum config config;
	enum limit limit;
} types SEC(".data.types");

char LICENSE[] SEC("license") = "GPL";
