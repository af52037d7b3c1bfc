// SPDX-License-Identifier: GPL-2.0
/*
 * The programs that are attached to traced functions, and those that serve them,
 * with constants written in (see CONFIG in wire.h). One copy of on_entry and
 * on_exit is loaded per function; on_session and on_probe are attached to many at
 * once.
 *
 * What they call must never be traced by ourselves: tracer/plan/deny.go.
 */
#include "kernel.h"

struct {
	MAP_UINT(type, BPF_MAP_TYPE_RINGBUF);
	MAP_UINT(max_entries, 16 << 20); /* bytes; set by the loader */
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

/* The cgroup asked for. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	MAP_UINT(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u32);
} cgroups SEC(".maps");

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

/*
 * With CONFIG_FILTER: the calls whose entries were sent by themselves, by frame,
 * until they return. The exits of others are those of calls that nobody wants.
 */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_UINT(max_entries, 16384);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, u8);
} alone SEC(".maps");

/* The packets that are followed, by the addresses of their struct sk_buff. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_UINT(max_entries, 65536);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, u8);
} followed SEC(".maps");

struct control control;

#define MAX_CPUS 8192
#define NO_TREE (~0U)

/* The calls under way, by frame, if CONFIG_SLOTS. One that finds its slot taken
 * is sent as two records. */
struct slot slots[1 << SLOT_BITS];

/* Set while one of our programs runs on this CPU; only used with CONFIG_GUARD. */
u8 busy[MAX_CPUS];

#define CONFIG(id)                                                             \
	({                                                                     \
		u64 value;                                                     \
		asm("%0 = %1 ll" : "=r"(value) : "i"(CONFIG_MARK + (id)));     \
		value;                                                         \
	})

/* The same behind much code: a value that is kept over it is none that the loader
 * knows of. */
#define CONFIG_AGAIN(id)                                                       \
	({                                                                     \
		u64 value;                                                     \
		asm volatile("%0 = %1 ll" : "=r"(value) : "i"(CONFIG_MARK + (id))); \
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

/*
 * What a program was called for. How arguments are had depends on the way of
 * attaching, which each program gives as a constant.
 */
struct site {
	enum access {
		TRAMPOLINE,       /* ctx[i], or a copy of ctx if CONFIG_COPY_CTX */
		TRAMPOLINE_MULTI, /* a copy of ctx: how much of it is valid differs between targets */
		PROBE,            /* ctx is struct pt_regs */
	} access;
	void *ctx;
	u64 frame; /* one per live call of a target: see struct record */
	u64 stack; /* PROBE: the stack pointer at the entry */
	void *task; /* current, if CONFIG_TASK */
	u32 target;
	u32 words;   /* the target's argument words, where the program has several targets */
	u32 strings; /* bit i: word i is a char pointer to be read; in graphs */
};

/* What an attach cookie tells of a target. */
INLINE void set_target(struct site *site, u64 cookie)
{
	site->target = cookie;
	site->words = (u8)(cookie >> COOKIE_WORDS_SHIFT);
	site->strings = cookie >> COOKIE_STRINGS_SHIFT;
}

/* Each word that a call can have; X(i) is a statement. */
#define EACH_WORD(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

#define COUNT(site, member)                                                    \
	({                                                                     \
		u32 key = (site)->target;                                      \
		struct counters *c = bpf_map_lookup_elem(&counts, &key);       \
		if (c)                                                         \
			c->member++;                                           \
	})

/*
 * Loads from current. A helper does the same, but bpf_get_current_comm copies the
 * name byte by byte, at five times the cost of all else that is kept of a call.
 */
#define TASK_LOAD(type, task, i)                                               \
	({                                                                     \
		u64 value;                                                     \
		asm volatile("%0 = *(" #type " *)(%1 + %2)"                    \
			     : "=r"(value)                                     \
			     : "r"(task), "i"((i) * 8));                       \
		value;                                                         \
	})

INLINE u64 get_pid_tgid(const struct site *site)
{
	if (!CONFIG(CONFIG_TASK))
		return bpf_get_current_pid_tgid();
	return TASK_LOAD(u32, site->task, CONFIG_TASK_PID) |
	       TASK_LOAD(u32, site->task, CONFIG_TASK_TGID) << 32;
}

INLINE void get_comm(const struct site *site, u64 *comm)
{
	if (!CONFIG(CONFIG_TASK)) {
		bpf_get_current_comm(comm, COMM_SIZE);
		return;
	}
	comm[0] = TASK_LOAD(u64, site->task, CONFIG_TASK_COMM);
	comm[1] = TASK_LOAD(u64, site->task, CONFIG_TASK_COMM_HI);
}

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

/* Whether this is a call of the tracer itself, which is left out. */
INLINE bool is_own(const struct site *site, u64 pid_tgid)
{
	if (!CONFIG(CONFIG_SELF) || pid_tgid >> 32 != CONFIG(CONFIG_SELF) || in_interrupt())
		return false;
	COUNT(site, self);
	return true;
}

/* Whether this call is to be shown. */
INLINE bool wanted(const struct site *site, u64 pid_tgid)
{
	u32 tgid = pid_tgid >> 32;

	if (is_own(site, pid_tgid))
		return false;
	if (CONFIG(CONFIG_PIDS) && !bpf_map_lookup_elem(&pids, &tgid))
		return false;
	if (CONFIG(CONFIG_CGROUP) && bpf_current_task_under_cgroup(&cgroups, 0) != 1)
		return false;
	if (CONFIG(CONFIG_COMM)) {
		u64 comm[2] = {};

		/* The helper pads the name; in the task it is padded from 5.17 on (06c5088aeeda). */
		bpf_get_current_comm(comm, sizeof(comm));
		if (comm[0] != CONFIG(CONFIG_COMM_LO) || comm[1] != CONFIG(CONFIG_COMM_HI))
			return false;
	}
	return true;
}

/*
 * The answer of a condition: whether it holds. The loader puts its code in place of
 * the load: it finds what it asks about in R1, leaves the answer in R0, and has the
 * stack below what is used here.
 */
#define ASK(condition, about)                                                  \
	({                                                                     \
		u64 answer;                                                    \
		asm volatile("r1 = %1\n"                                       \
			     "r0 = %2 ll\n"                                    \
			     "%0 = r0"                                         \
			     : "=r"(answer)                                    \
			     : "r"(about), "i"(CONFIG_MARK + (condition))      \
			     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");  \
		answer;                                                        \
	})

/* Writes outputs to memory, in the same way. */
#define TAKE(about, to)                                                        \
	asm volatile("r1 = %0\n"                                               \
		     "r2 = %1\n"                                               \
		     "r0 = %2 ll"                                              \
		     :                                                         \
		     : "r"(about), "r"(to), "i"(CONFIG_MARK + CONFIG_TAKE)     \
		     : "r0", "r1", "r2", "r3", "r4", "r5", "memory")

/* Finds a call's packet, in the same way: ANSWER_YES, or it can't be told where it is. */
#define LOCATE(about, packet)                                                  \
	({                                                                     \
		u64 answer;                                                    \
		asm volatile("r1 = %1\n"                                       \
			     "r2 = %2\n"                                       \
			     "r0 = %3 ll\n"                                    \
			     "%0 = r0"                                         \
			     : "=r"(answer)                                    \
			     : "r"(about), "r"(packet), "i"(CONFIG_MARK + CONFIG_LOCATE) \
			     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");  \
		answer;                                                        \
	})

/*
 * A number of which the verifier knows nothing any more, so that it follows what comes
 * next once, not once for each way that led here.
 */
INLINE u64 unknown(u64 number)
{
	u64 read = 0;

	bpf_probe_read_kernel(&read, sizeof(read), &number);
	return read;
}

/* The address of a call's struct sk_buff, in the way of ASK. */
#define SKB_OF(about)                                                          \
	({                                                                     \
		u64 skb;                                                       \
		asm volatile("r1 = %1\n"                                       \
			     "r0 = %2 ll\n"                                    \
			     "%0 = r0"                                         \
			     : "=r"(skb)                                       \
			     : "r"(about), "i"(CONFIG_MARK + CONFIG_SKB)       \
			     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");  \
		unknown(skb);                                                  \
	})

INLINE bool is_followed(u64 skb)
{
	return control.following && bpf_map_lookup_elem(&followed, &skb);
}

INLINE void follow(u64 skb)
{
	u8 present = 1;
	long err = bpf_map_update_elem(&followed, &skb, &present, BPF_NOEXIST);

	if (!err) {
		__sync_fetch_and_add(&control.following, 1);
		__sync_fetch_and_add(&control.followed, 1);
	} else if (err != -EEXIST) {
		__sync_fetch_and_add(&control.unfollowed, 1);
	}
}

INLINE void unfollow(u64 skb)
{
	if (control.following && !bpf_map_delete_elem(&followed, &skb))
		__sync_fetch_and_add(&control.following, -1);
}

/* Whether this call's entry is to be shown. */
INLINE bool chosen(const struct site *site, u64 pid_tgid)
{
	u64 answer, skb = 0;

	if (CONFIG_AGAIN(CONFIG_FOLLOW)) {
		skb = SKB_OF(site->ctx);
		if (is_followed(skb))
			return !is_own(site, pid_tgid);
	}
	if (!wanted(site, pid_tgid))
		return false;
	if (!CONFIG_AGAIN(CONFIG_FILTER))
		return true;
	answer = ASK(CONFIG_CONDITION, site->ctx);
	if (answer == ANSWER_UNREAD)
		COUNT(site, unread);
	if (answer != ANSWER_YES)
		return false;
	if (CONFIG_AGAIN(CONFIG_FOLLOW) && skb)
		follow(skb);
	return true;
}

/* Forgets an entry that was sent by itself, and tells whether it was. */
INLINE bool was_alone(const struct site *site)
{
	u64 frame = site->frame;

	if (!control.alone || !bpf_map_lookup_elem(&alone, &frame))
		return false;
	/*
	 * Up to 6.6 that may fail, as what was interrupted has the bucket (EBUSY). Then
	 * it stays, until the next call at this frame.
	 */
	if (!bpf_map_delete_elem(&alone, &frame))
		__sync_fetch_and_add(&control.alone, -1);
	return true;
}

INLINE void goes_alone(const struct site *site)
{
	u64 frame = site->frame;
	u8 present = 1;

	was_alone(site); /* what an older call at this frame left behind */
	if (bpf_map_update_elem(&alone, &frame, &present, BPF_ANY))
		COUNT(site, lost_exits);
	else
		__sync_fetch_and_add(&control.alone, 1);
}

INLINE void lose_entry(const struct site *site)
{
	u64 frame = site->frame;
	u8 lost = 1;

	COUNT(site, lost_entries);
	__sync_fetch_and_add(&control.losses, 1);
	if (bpf_map_update_elem(&lost_frames, &frame, &lost, BPF_ANY))
		control.unsure = bpf_ktime_get_ns();
}

INLINE void lose_exit(const struct site *site)
{
	u64 frame = site->frame;

	COUNT(site, lost_exits);
	__sync_fetch_and_add(&control.losses, 1);
	bpf_map_delete_elem(&lost_frames, &frame);
}

/* Whether the entry of the call at this frame was lost; forgets the frame. */
INLINE bool entry_lost(const struct site *site)
{
	u64 frame = site->frame;

	if (!control.losses)
		return false;
	return !bpf_map_delete_elem(&lost_frames, &frame);
}

INLINE void identify(struct record *r, const struct site *site, u64 pid_tgid, enum kind kind)
{
	r->frame = site->frame;
	r->pid_tgid = pid_tgid;
	r->target = site->target;
	r->cpu = bpf_get_smp_processor_id();
	r->kind = kind;
	r->flags = 0;
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

INLINE void read_strings(struct string *s, u64 *words, u64 strings, u64 room)
{
	u64 n = 0;

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_WORDS; i++) {
		/* Beyond the last word there is no bit, and no memory either. */
		if (i < CONFIG(CONFIG_WORDS) && strings >> i & 1 && n < room)
			read_string(&s[n++], words[i]);
	}
}

INLINE struct slot *slot_of(const struct site *site)
{
	u32 low;

	/* The verifier takes half a context pointer for a number, and only that. */
	asm volatile("%0 = %1" : "=w"(low) : "w"((u32)site->frame));
	return &slots[low * 0x9e3779b1U >> (32 - SLOT_BITS)];
}

INLINE void read_words(u64 *words, const struct site *site)
{
	void *ctx = site->ctx;

	switch (site->access) {
	case TRAMPOLINE:
		if (CONFIG(CONFIG_COPY_CTX)) {
			bpf_probe_read_kernel(words, CONFIG(CONFIG_WORDS) * 8, ctx);
			return;
		}
#define WORD(i)                                                                \
	if (CONFIG(CONFIG_WORDS) > (i))                                        \
		words[i] = CTX_WORD(ctx, i);
		EACH_WORD(WORD)
#undef WORD
		return;
	case TRAMPOLINE_MULTI: {
		u64 count = site->words;

		/*
		 * The group has no such target; the verifier can't know. What it is told
		 * has to be of the register that is then used.
		 */
		asm volatile("" : "+r"(count));
		if (count > CONFIG(CONFIG_WORDS))
			return;
		asm volatile("" : "+r"(count));
		bpf_probe_read_kernel(words, count * 8, ctx);
		return;
	}
	case PROBE:
#define WORD(i)                                                                \
	if (CONFIG(CONFIG_WORDS) > (i) && CONFIG(CONFIG_REGS) > (i))           \
		words[i] = CTX_WORD(ctx, CONFIG_REGS_ARG + (i));
		WORD(0) WORD(1) WORD(2) WORD(3) WORD(4) WORD(5) WORD(6) WORD(7)
#undef WORD
		if (CONFIG(CONFIG_WORDS) > CONFIG(CONFIG_REGS)) {
			u64 count = site->words - CONFIG(CONFIG_REGS);

			/* Few have arguments on the stack. */
			asm volatile("" : "+r"(count));
			if (count > CONFIG(CONFIG_WORDS) - CONFIG(CONFIG_REGS))
				return;
			asm volatile("" : "+r"(count));
			bpf_probe_read_kernel(words + CONFIG(CONFIG_REGS), count * 8,
					      (void *)site->stack + CONFIG(CONFIG_STACK_ARGS));
		}
	}
}

INLINE s64 read_stack(void *frames, void *ctx)
{
	/* To skip our own frames would save nothing: they are unwound anyway. */
	long n = bpf_get_stack(ctx, frames, FEW_FRAMES * 8, 0);

	if (UNLIKELY(n == FEW_FRAMES * 8))
		n = bpf_get_stack(ctx, frames, MAX_FRAMES * 8, 0);
	return n < 0 ? n : n / 8;
}

INLINE u64 read_retval(const struct site *site)
{
	void *ctx = site->ctx;
	u64 retval = 0;

	switch (site->access) {
	case TRAMPOLINE:
		if (!CONFIG(CONFIG_RETVAL))
			return 0;
		if (CONFIG(CONFIG_COPY_CTX)) {
			bpf_probe_read_kernel(&retval, sizeof(retval), ctx + 8 * CONFIG(CONFIG_WORDS));
			return retval;
		}
		return CTX_WORD(ctx, CONFIG_RETVAL_WORD);
	case TRAMPOLINE_MULTI:
		bpf_get_func_ret(ctx, &retval);
		return retval;
	case PROBE:
		return CTX_WORD(ctx, CONFIG_REGS_RETVAL);
	}
	return 0;
}

/*
 * Sends size bytes of a packet, from an address on; more tells that they are not the
 * first ones. Returns whether all of them were sent. A record's size has to be a constant,
 * so there are a few of them.
 */
INLINE bool send_bytes(const struct site *site, u64 frame, const struct packet *p, u64 from, u64 size, u64 depth, bool more)
{
	u64 wanted;

#define SEND(room)                                                             \
	if (size <= (room) || CONFIG_AGAIN(CONFIG_SNAPLEN) <= (room)) {        \
		struct record *r = bpf_ringbuf_reserve(&events, sizeof(*r) + sizeof(*p) + (room), 0); \
		struct packet *to;                                             \
		if (UNLIKELY(!r)) {                                            \
			COUNT(site, lost_packets);                             \
			return false;                                          \
		}                                                              \
		wanted = size;                                                 \
		to = (struct packet *)(r + 1);                                 \
		/* For the verifier, of the register that is used. */          \
		asm volatile("" : "+r"(size));                                 \
		if (size > (room))                                             \
			size = (room);                                         \
		asm volatile("" : "+r"(size));                                 \
		*to = *p;                                                      \
		to->more = more;                                               \
		if (bpf_probe_read_kernel(to + 1, size, (void *)from)) {       \
			COUNT(site, no_packet);                                \
			size = 0;                                              \
			to->more = 1;                                          \
		}                                                              \
		to->size = size;                                               \
		r->frame = frame;                                              \
		r->target = site->target;                                      \
		r->kind = KIND_PACKET;                                         \
		r->frames = depth;                                             \
		bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);                       \
		return size == wanted;                                         \
	}
	if (more) { /* pages, and what network cards fill; the verifier follows each */
		SEND(4096)
	} else {
		SEND(128)
		SEND(512)
		SEND(2048)
	}
	SEND(16384)
	SEND(MAX_PACKET)
#undef SEND
	return false;
}

/* struct bio_vec, from 6.9 on struct skb_frag (21d2e6737c97) */
struct fragment {
	u64 page;
	u32 len, offset;
};

/* Reads the i-th fragment. Returns where it is; 0: it can't be read. Pages are always in
 * the direct map. */
INLINE u64 fragment_at(u64 shared, u64 i, struct fragment *f)
{
	u64 page;

	if (bpf_probe_read_kernel(f, sizeof(*f), (void *)(shared + CONFIG_AGAIN(CONFIG_FRAGS) + i * sizeof(*f))) ||
	    f->page & 1 /* memory of a device (struct net_iov) */)
		return 0;
	page = (f->page - control.pages) / CONFIG_AGAIN(CONFIG_PAGE_SIZE);
	return (page << CONFIG_AGAIN(CONFIG_PAGE_SHIFT)) + control.page_base + f->offset;
}

/* Sends what a packet has in fragments, as many bytes as are wanted still. */
INLINE void send_fragments(const struct site *site, u64 frame, const struct packet *p, u64 wanted, u64 depth)
{
	u64 shared = p->shared;
	u8 count = 0;

	if (bpf_probe_read_kernel(&count, sizeof(count), (void *)(shared + CONFIG(CONFIG_NR_FRAGS))))
		return;
#pragma clang loop unroll(disable)
	for (u64 i = 0; i < MAX_FRAGS; i++) {
		struct fragment f;
		u64 at, size;

		if (i >= count || !wanted)
			break;
		at = fragment_at(shared, i, &f);
		if (!at)
			break;
		size = f.len < wanted ? f.len : wanted;
		if (!unknown(send_bytes(site, frame, p, at, size, depth, true)))
			break;
		wanted = unknown(wanted - size);
	}
}

/*
 * A number of size bytes at an offset in a packet, in the network's order; negative: it
 * can't be read. Where the code of a filter finds that these do not follow base, it calls
 * this as if it were a helper; the loader puts it behind the program. It is global, so that
 * the verifier looks at it once, not for each call.
 */
SEC("function")
s64 packet_bytes(u64 base, s64 linear, u64 shared, u64 offset, u64 size)
{
	u64 at = base + offset;
	s64 here = linear - offset; /* bytes that follow at; negative: so many are skipped first */
	u64 value = 0, next = 0;
	u64 zero = unknown(0);
	u8 count = 0;

	if (!control.pages || !shared || size > PACKET_BYTES ||
	    bpf_probe_read_kernel(&count, sizeof(count), (void *)(shared + CONFIG(CONFIG_NR_FRAGS))) ||
	    count > CONFIG(CONFIG_MOST_FRAGS) /* none that the kernel has written */)
		return -1;
	/* Each round reads a byte, or goes on to the next fragment. */
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_FRAGS + PACKET_BYTES; i++) {
		struct fragment f;
		u8 byte;

		/* Without knowledge of these the verifier follows a round once. */
		asm volatile("%0 += %4\n"
			     "%1 += %4\n"
			     "%2 += %4\n"
			     "%3 += %4"
			     : "+r"(here), "+r"(value), "+r"(next), "+r"(size)
			     : "r"(zero));
		if (here > 0) {
			if (bpf_probe_read_kernel(&byte, sizeof(byte), (void *)at))
				return -1;
			value = value << 8 | byte;
			if (!--size)
				return value;
			at++;
			here--;
			continue;
		}
		if (next >= count)
			return -1;
		at = fragment_at(shared, next++, &f);
		if (!at)
			return -1;
		at -= here;
		here += f.len;
	}
	return -1;
}

/* Sends the packet of a call, if it can be told where that is. */
INLINE bool send_packet(const struct site *site, u64 frame, u64 depth)
{
	struct packet p = {};
	u64 size, wanted;

	if (LOCATE(site->ctx, &p) != ANSWER_YES || p.linear < 0) {
		COUNT(site, no_packet);
		return false;
	}
	size = p.linear;
	wanted = p.length < 0 ? 0 : p.length;
	if (wanted > CONFIG(CONFIG_SNAPLEN))
		wanted = CONFIG(CONFIG_SNAPLEN);
	if (size > wanted)
		size = wanted;
	if (!unknown(send_bytes(site, frame, &p, p.start, size, depth, false)))
		return false;
	if (CONFIG(CONFIG_PAGE_SIZE) && control.pages && p.shared && size < wanted)
		send_fragments(site, frame, &p, unknown(wanted - size), depth);
	return true;
}

/* Keeps an entry until the exit. False: another call has the slot. */
INLINE bool keep(const struct site *site, u64 pid_tgid)
{
	struct slot *s = slot_of(site);

	if (UNLIKELY(s->frame == site->frame)) /* an older call, whose exit we did not see */
		COUNT(site, no_exit);
	else if (s->frame || __sync_val_compare_and_swap(&s->frame, 0, site->frame))
		return false;
	s->pid_tgid = pid_tgid;
	s->target = site->target;
	s->cpu = bpf_get_smp_processor_id();
	get_comm(site, (u64 *)s->comm);
	read_words(s->words, site);
	s->time = bpf_ktime_get_ns();
	return true;
}

/* Gives a slot back, after what was read of it: others may write to it at once. */
INLINE void release(struct slot *s)
{
	__sync_lock_test_and_set(&s->frame, 0);
}

/* A call that nobody wants must not return as an older one with its frame. */
INLINE void forget(const struct site *site)
{
	struct slot *s = slot_of(site);

	if (s->frame == site->frame) {
		release(s);
		COUNT(site, no_exit);
	}
}

/* Returns whether the call's return is wanted. */
INLINE bool entered(struct site *site)
{
	u64 pid_tgid;
	struct record *r;
	u64 *words;
	u8 *behind;
	bool has_packet = false;

	if (CONFIG(CONFIG_TASK))
		site->task = bpf_get_current_task_btf();
	pid_tgid = get_pid_tgid(site);
	if (!chosen(site, pid_tgid)) {
		if (CONFIG_AGAIN(CONFIG_SLOTS))
			forget(site);
		if (CONFIG_AGAIN(CONFIG_FILTER) == 2)
			was_alone(site);
		return false;
	}
	if (CONFIG(CONFIG_SLOTS) && keep(site, pid_tgid))
		return true;
	if (CONFIG(CONFIG_FILTER) == 2)
		goes_alone(site);
	if (CONFIG(CONFIG_SNAPLEN))
		has_packet = send_packet(site, site->frame, 0);
	r = bpf_ringbuf_reserve(&events, CONFIG_AGAIN(CONFIG_RECORD_SIZE), 0);
	if (UNLIKELY(!r)) {
		lose_entry(site);
		return true;
	}
	entry_lost(site); /* what an older call at this frame left behind */
	identify(r, site, pid_tgid, KIND_ENTRY);
	if (CONFIG_AGAIN(CONFIG_SNAPLEN) && has_packet)
		r->flags = FLAG_PACKET;
	get_comm(site, (u64 *)r->comm);
	words = (u64 *)(r + 1);
	read_words(words, site);
	behind = (u8 *)(words + CONFIG(CONFIG_WORDS));
	if (CONFIG(CONFIG_OUTPUTS))
		TAKE(site->ctx, behind);
	if (CONFIG(CONFIG_STRINGS))
		read_strings((struct string *)(behind + CONFIG(CONFIG_OUTPUTS)), words, CONFIG(CONFIG_STRINGS), MAX_WORDS);
	if (CONFIG(CONFIG_STACK_AT))
		r->frames = read_stack((u8 *)r + CONFIG(CONFIG_STACK_AT), site->ctx);
	r->time = bpf_ktime_get_ns();
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return true;
}

/* Whether a call is to be shown, as of its result. */
INLINE bool result_wanted(u64 retval)
{
	return !CONFIG_AGAIN(CONFIG_FILTER_RESULT) || ASK(CONFIG_RESULT_CONDITION, retval);
}

/*
 * Sends a kept entry with its exit. The stack is that of the entry: the function
 * has left its own frame, and those of its callers have not moved. False: the
 * entry is that of an older call, whose exit we did not see.
 */
INLINE bool returned(const struct site *site, struct slot *s, u64 now, u64 pid_tgid)
{
	struct result *result;
	struct record *r;
	u64 *words;
	u64 retval;

	if (UNLIKELY(s->target != site->target || (u32)s->pid_tgid != (u32)pid_tgid)) {
		release(s);
		COUNT(site, no_exit);
		return false;
	}
	retval = read_retval(site);
	if (!result_wanted(retval) || (CONFIG_AGAIN(CONFIG_LEAST_TIME) && now - s->time < CONFIG_AGAIN(CONFIG_LEAST_TIME))) {
		release(s);
		return true;
	}
	r = bpf_ringbuf_reserve(&events, CONFIG_AGAIN(CONFIG_CALL_SIZE), 0);
	if (UNLIKELY(!r)) {
		release(s);
		COUNT(site, lost_entries);
		COUNT(site, lost_exits);
		return true;
	}
	r->time = s->time;
	r->frame = site->frame;
	r->pid_tgid = s->pid_tgid;
	r->target = site->target;
	r->cpu = s->cpu;
	r->kind = KIND_CALL;
	r->flags = 0;
	r->frames = 0;
	((u64 *)r->comm)[0] = ((u64 *)s->comm)[0];
	((u64 *)r->comm)[1] = ((u64 *)s->comm)[1];
	result = (struct result *)(r + 1);
	result->retval = retval;
	result->time = now;
	words = (u64 *)(result + 1);
#define WORD(i)                                                                \
	if (CONFIG(CONFIG_WORDS) > (i))                                        \
		words[i] = s->words[i];
	EACH_WORD(WORD)
#undef WORD
	release(s);
	if (CONFIG(CONFIG_CALL_STACK_AT))
		r->frames = read_stack((u8 *)r + CONFIG(CONFIG_CALL_STACK_AT), site->ctx);
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return true;
}

INLINE void left(struct site *site)
{
	u64 now, pid_tgid;
	struct slot *s = slot_of(site);
	struct result *result;
	struct record *r;
	u64 retval;
	bool is_wanted;

	/* With a filter most exits are of calls that nobody wants, and there is no more to do. */
	if (CONFIG(CONFIG_FILTER) && !control.alone &&
	    !(CONFIG(CONFIG_SLOTS) && site->frame && s->frame == site->frame))
		return;
	now = bpf_ktime_get_ns();
	if (CONFIG(CONFIG_TASK))
		site->task = bpf_get_current_task_btf();
	pid_tgid = get_pid_tgid(site);
	/* No frame: there was no entry, and a slot without one is free. */
	if (CONFIG_AGAIN(CONFIG_SLOTS) && site->frame && s->frame == site->frame && returned(site, s, now, pid_tgid))
		return;
	if (CONFIG_AGAIN(CONFIG_FILTER) ? !was_alone(site) : !wanted(site, pid_tgid))
		return;
	retval = read_retval(site);
	is_wanted = result_wanted(retval);
	r = bpf_ringbuf_reserve(&events, sizeof(*r) + sizeof(*result), 0);
	if (UNLIKELY(!r)) {
		lose_exit(site);
		return;
	}
	identify(r, site, pid_tgid, KIND_EXIT);
	r->flags = (entry_lost(site) ? FLAG_ENTRY_LOST : 0) | (is_wanted ? 0 : FLAG_UNWANTED);
	r->frames = control.unsure;
	result = (struct result *)(r + 1);
	result->retval = retval;
	result->time = now;
	r->time = now;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

#include "graph.h"

/*
 * Kernels before 5.12 (ca06f55b9002) let a program interrupt itself, to any
 * depth. There tracing programs run with preemption off, so one flag per CPU
 * is enough. Elsewhere this is dead code.
 */
INLINE u8 *enter_cpu(const struct site *site)
{
	u8 *flag = &busy[bpf_get_smp_processor_id() & (MAX_CPUS - 1)];

	if (UNLIKELY(*flag)) {
		COUNT(site, recursion);
		return 0;
	}
	*flag = 1;
	return flag;
}

/* What a program does, unless it has interrupted itself. */
#define GUARDED(site, statement)                                               \
	({                                                                     \
		u8 *flag = 0;                                                  \
		if (CONFIG(CONFIG_GUARD)) {                                    \
			flag = enter_cpu(site);                                \
			if (!flag)                                             \
				return 0;                                      \
		}                                                              \
		statement;                                                     \
		if (CONFIG_AGAIN(CONFIG_GUARD) && flag)                        \
			*flag = 0;                                             \
	})

/* The site of a program that has one target. */
#define SITE(how, at, is)                                                      \
	{                                                                      \
		.access = how, .ctx = at, .frame = is, .target = CONFIG(CONFIG_TARGET), \
		.words = CONFIG(CONFIG_WORDS), .strings = CONFIG(CONFIG_STRINGS) \
	}

SEC("fentry")
int on_entry(void *ctx)
{
	struct site site = SITE(TRAMPOLINE, ctx, (u64)ctx);

	if (!control.gate)
		return 0;
	if (CONFIG(CONFIG_GRAPH) && turned_away())
		return 0;
	GUARDED(&site, {
		if (CONFIG_AGAIN(CONFIG_GRAPH))
			node_entered(&site);
		else
			entered(&site);
	});
	return 0;
}

SEC("fexit")
int on_exit(void *ctx)
{
	struct site site = SITE(TRAMPOLINE, ctx, (u64)ctx + CONFIG(CONFIG_FRAME_AT));

	if (!control.gate)
		return 0;
	GUARDED(&site, {
		if (CONFIG(CONFIG_GRAPH))
			node_left(&site, 0);
		else
			left(&site);
	});
	return 0;
}

/*
 * fsession.multi, or fentry.multi if not CONFIG_SESSION. The session's cookie, 0
 * at first, tells the return whether the program ran at the entry: where it did
 * not, an older call could have the frame. In a graph it is the node's ID.
 */
SEC("fsession.multi")
int on_session(void *ctx)
{
	struct site site = {.access = TRAMPOLINE_MULTI, .ctx = ctx, .frame = (u64)ctx};
	bool is_return = CONFIG(CONFIG_SESSION) && session_is_return(ctx) & 1;

	if (!control.gate)
		return 0;
	if (CONFIG_AGAIN(CONFIG_GRAPH)) {
		u64 id;

		if (is_return) {
			id = *session_cookie(ctx);
			if (id)
				node_left(&site, id);
			return 0;
		}
		if (turned_away())
			return 0;
		set_target(&site, bpf_get_attach_cookie(ctx));
		id = node_entered(&site);
		if (id)
			*session_cookie(ctx) = id;
		return 0;
	}
	set_target(&site, bpf_get_attach_cookie(ctx));
	if (is_return) {
		if (!*session_cookie(ctx))
			site.frame = 0;
		left(&site);
	} else {
		if (CONFIG(CONFIG_SESSION))
			*session_cookie(ctx) = 1;
		entered(&site);
	}
	return 0;
}

/*
 * kprobe.session, or kprobe.multi if not CONFIG_SESSION. The frame is the stack
 * pointer at the entry. A function that ends by jumping to another one shares it
 * with that, so the target is part of it: up to 2^16 of them differ. The return
 * gets it from the entry, as arm64 has no stack pointer there; in a graph it gets
 * the node's ID.
 *
 * An entry that returns 1 has no return. One that is not wanted has none, and none has
 * while others are attached and detached: what waits in a function then would be left to
 * the kernel's hook for returns, long after we have gone.
 */
SEC("kprobe.session")
int on_probe(void *ctx)
{
	struct site site = {.access = PROBE, .ctx = ctx};
	bool is_return = CONFIG(CONFIG_SESSION) && session_is_return(ctx) & 1;

	if (!control.gate)
		return 1;
	if (CONFIG_AGAIN(CONFIG_GRAPH)) {
		u64 id;

		if (is_return) {
			id = *session_cookie(ctx);
			if (id)
				node_left(&site, id);
			return 0;
		}
		if (turned_away())
			return 1;
		set_target(&site, bpf_get_attach_cookie(ctx));
		site.stack = CTX_WORD(ctx, CONFIG_REGS_SP);
		site.frame = site.stack;
		id = node_entered(&site);
		if (CONFIG_AGAIN(CONFIG_SESSION))
			*session_cookie(ctx) = id;
		return !id;
	}
	set_target(&site, bpf_get_attach_cookie(ctx));
	if (is_return) {
		site.frame = *session_cookie(ctx);
		left(&site);
		return 0;
	}
	site.stack = CTX_WORD(ctx, CONFIG_REGS_SP);
	site.frame = site.stack ^ (u64)site.target << 48;
	if (CONFIG(CONFIG_SESSION))
		*session_cookie(ctx) = site.frame;
	/* Without a filter a return asks anew: the task may have another name by then. */
	return !entered(&site) && CONFIG_AGAIN(CONFIG_FILTER);
}

/* A probe of one function's entry, on kernels without probes of many. */
SEC("kprobe")
int on_kprobe(void *ctx)
{
	struct site site = SITE(PROBE, ctx, 0);

	if (!control.gate || turned_away())
		return 0;
	site.stack = CTX_WORD(ctx, CONFIG_REGS_SP);
	site.frame = site.stack;
	GUARDED(&site, node_entered(&site));
	return 0;
}

/* And of its return. The stack pointer is not what it was, and differs between
 * kernels: the last call of the function is the one that returns. */
SEC("kretprobe")
int on_kretprobe(void *ctx)
{
	struct site site = SITE(PROBE, ctx, 0);

	if (!control.gate)
		return 0;
	GUARDED(&site, node_left(&site, 0));
	return 0;
}

/* Entries of functions that are not traced, whose numbers are their cookies. */
SEC("kprobe.multi")
int on_seen(void *ctx)
{
	if (control.gate)
		watched(bpf_get_attach_cookie(ctx));
	return 0;
}

/* sched_process_free(task): the last that is heard of it. */
SEC("raw_tp/sched_process_free")
int on_free(u64 *ctx)
{
	if (control.gate)
		task_gone(ctx[0]);
	return 0;
}

/*
 * The entry of a function that frees the struct sk_buff it is called with: with
 * CONFIG_IF_STOLEN only if its second argument holds.
 */
SEC("fentry")
int on_freed_skb(void *ctx)
{
	if (!control.gate || !control.following)
		return 0;
	if (CONFIG(CONFIG_IF_STOLEN) && !(u8)CTX_WORD(ctx, 1))
		return 0;
	unfollow(unknown(CTX_WORD(ctx, 0)));
	return 0;
}

/*
 * The exit of a function that returns a new struct sk_buff: a copy of another one, or
 * what has nothing to do with what was followed at its address.
 */
SEC("fexit")
int on_new_skb(void *ctx)
{
	bool is_copy = false;
	u64 skb;

	if (!control.gate || !control.following)
		return 0;
	if (CONFIG(CONFIG_COPY_OF) == 1)
		is_copy = is_followed(unknown(CTX_WORD(ctx, 0)));
	if (CONFIG(CONFIG_COPY_OF) == 2)
		is_copy = is_followed(unknown(CTX_WORD(ctx, 1)));
	skb = unknown(CTX_WORD(ctx, CONFIG_RETVAL_WORD));
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_SEGMENTS; i++) {
		if ((s64)skb >= -MAX_ERRNO) /* there is none */
			return 0;
		if (is_copy)
			follow(skb);
		else
			unfollow(skb);
		if (!CONFIG(CONFIG_SEGMENTS))
			return 0;
		if (bpf_probe_read_kernel(&skb, sizeof(skb), (void *)(skb + CONFIG(CONFIG_SKB_NEXT))))
			break;
	}
	if (is_copy && skb)
		__sync_fetch_and_add(&control.unfollowed, 1);
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
	if (bpf_probe_read_kernel(&child, sizeof(child), (void *)(ctx[1] + CONFIG(CONFIG_FORK_TGID))))
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

/* Run by hand: copies ctx[1] bytes of kernel memory at ctx[0] to peeked. */
u8 peeked[PEEK_SIZE];

SEC("raw_tp/peek")
int peek(u64 *ctx)
{
	u64 size = ctx[1];

	if (size > PEEK_SIZE)
		return -7; /* E2BIG */
	return bpf_probe_read_kernel(peeked, size, (void *)ctx[0]);
}

/* Brings the types that only code uses into the BTF, for the generator. */
struct {
	struct record record;
	struct result result;
	struct string string;
	struct output output;
	struct packet packet;
	struct place place;
	enum kind kind;
	enum flag flag;
	enum context context;
	enum config config;
	enum limit limit;
} types SEC(".data.types");

char LICENSE[] SEC("license") = "GPL";
