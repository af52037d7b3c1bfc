/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Function graphs: which call was made in which one, without a look at stacks.
 *
 * A task that has called a root function gets a tree: the calls of its that are
 * under way, the root first. What interrupts a task has returned before the task
 * goes on, so one list of a task holds the calls of interrupts, too. Each call's
 * key is the address of the return address into its caller: on one stack, calls made
 * in it have lower ones, and a call whose key is below that of a new one has
 * returned, whether its exit was seen or not.
 *
 * Only code that runs as a task touches its tree, or after its end, so a flag is
 * enough to keep what interrupts a program of ours away from it.
 */
#ifndef FGTRACE_GRAPH_H
#define FGTRACE_GRAPH_H

/* Value size and number of entries are set by the loader. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_UINT(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct tree);
} trees SEC(".maps");

/* The tasks that have a tree, by address of their task_struct; 0: free. The tree
 * is the one with the index of the entry. */
u64 tasks[TREE_BUCKETS * TREE_WAYS];

/* How many want an entry: who finds itself alone has it. */
u64 claims[TREE_BUCKETS * TREE_WAYS];

/* Where each CPU's preempt count is, if control.percpu_base. */
u64 preempt_counts[MAX_CPUS];

INLINE u32 bucket_of(u64 task)
{
	return (u32)(task >> 6) * 0x9e3779b1U >> (32 - TREE_BUCKET_BITS) << TREE_WAY_BITS;
}

/* The index of a task's tree, or NO_TREE. */
INLINE u32 find_tree(u64 task)
{
	u32 at = bucket_of(task);
	u64 *bucket = &tasks[at];

	if (bucket[0] == task)
		return at;
	if (bucket[1] == task)
		return at + 1;
	if (bucket[2] == task)
		return at + 2;
	if (bucket[3] == task)
		return at + 3;
	return NO_TREE;
}

/* Takes a free entry of the table for a task. */
INLINE u32 claim_tree(u64 task)
{
	u32 at = bucket_of(task);

#pragma clang loop unroll(full)
	for (u32 i = 0; i < TREE_WAYS; i++) {
		if (claims[at + i])
			continue;
		__sync_fetch_and_add(&claims[at + i], 1);
		if (*(volatile u64 *)&claims[at + i] == 1) {
			tasks[at + i] = task;
			return at + i;
		}
		__sync_fetch_and_add(&claims[at + i], -1);
	}
	return NO_TREE;
}

/* A tree that is given back stays not ready: its next task makes it so. */
INLINE void release_tree(u32 at)
{
	at &= TREE_BUCKETS * TREE_WAYS - 1;
	/* What was written to the tree comes before; amd64 needs no barrier for that. */
	if (CONFIG(CONFIG_TASK))
		__sync_lock_test_and_set(&tasks[at], 0);
	else
		tasks[at] = 0;
	__sync_fetch_and_add(&claims[at], -1);
}

INLINE u8 context(u64 task)
{
	u32 count = 0;
	u64 at = control.preempt_count;

	if (control.percpu_base)
		at = preempt_counts[bpf_get_smp_processor_id() & (MAX_CPUS - 1)];
	else
		at += task;
	if (bpf_probe_read_kernel(&count, sizeof(count), (void *)at))
		return CONTEXT_TASK;
	if (count & control.nmi_mask)
		return CONTEXT_NMI;
	if (count & control.hardirq_mask)
		return CONTEXT_HARDIRQ;
	return count & control.softirq_mask ? CONTEXT_SOFTIRQ : CONTEXT_TASK;
}

/* The i-th call of a tree, or 0. */
INLINE struct node *node_at(struct tree *tree, u64 i)
{
	/*
	 * For the verifier the number has to be checked here, in the register that
	 * is then calculated with, whatever the compiler knows of it.
	 */
	asm volatile("" : "+r"(i));
	if (i >= CONFIG(CONFIG_NODES))
		return 0;
	asm volatile("" : "+r"(i));
	return &tree->nodes[i];
}

INLINE void describe(struct record *r, struct tree *tree, struct node *n, u64 depth, enum kind kind)
{
	struct place *place = (struct place *)(r + 1);
	struct node *parent = n - 1;

	r->time = n->time;
	r->frame = n->id;
	r->pid_tgid = tree->pid_tgid;
	r->target = n->target;
	r->cpu = n->cpu;
	r->kind = kind;
	r->flags = 0;
	r->frames = 0;
	((u64 *)r->comm)[0] = tree->comm[0];
	((u64 *)r->comm)[1] = tree->comm[1];
	place->parent = parent->id;
	place->outer = parent->context;
	place->below = n->below;
	place->depth = depth;
	place->context = n->context;
	place->opened = n->opened;
}

INLINE void copy_words(u64 *to, const u64 *from)
{
#define WORD(i)                                                                \
	if (CONFIG(CONFIG_MAX_WORDS) > (i))                                    \
		to[i] = from[i];
	EACH_WORD(WORD)
#undef WORD
}

/*
 * Tells of a call that goes on: its children come before it. If there is no room,
 * that is not lost: all but strings is told again at the exit.
 */
INLINE void open_node(struct tree *tree, struct node *n, u64 depth)
{
	struct record *r = bpf_ringbuf_reserve(&events, CONFIG(CONFIG_OPEN_SIZE), 0);

	if (UNLIKELY(!r)) {
		__sync_fetch_and_add(&control.lost_opens, 1);
		return;
	}
	n->opened = 1;
	describe(r, tree, n, depth, KIND_OPEN);
	copy_words((u64 *)((struct place *)(r + 1) + 1), n->words);
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/* Tells of the calls that one at a depth was made in, the root first. */
INLINE void open_above(struct tree *tree, u64 depth)
{
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_NODES; i++) {
		struct node *n = i < depth ? node_at(tree, i) : 0;

		if (i >= CONFIG(CONFIG_NODES) || !n)
			break;
		if (!n->opened)
			open_node(tree, n, i);
	}
}

/* Sends a call that has returned. */
INLINE void close_node(struct tree *tree, struct node *n, u64 depth, u64 retval, u64 now, u8 flags)
{
	struct result *result;
	struct record *r;

	/* What it was made in takes longer, and is shown, too: with the time of this one. */
	if (CONFIG(CONFIG_LEAST_TIME) && now - n->time < CONFIG_AGAIN(CONFIG_LEAST_TIME))
		return;
	n[-1].below += now - n->time;
	if (CONFIG_AGAIN(CONFIG_LEAST_TIME)) {
		/* Those whose exits were not seen are few, and loops in loops take the verifier long. */
		if (CONFIG(CONFIG_EARLY) && !flags)
			open_above(tree, depth);
	}
	r = bpf_ringbuf_reserve(&events, CONFIG(CONFIG_NODE_SIZE), 0);
	if (UNLIKELY(!r)) {
		struct site lost = {};

		lost.target = n->target;
		COUNT(&lost, lost_exits);
		return;
	}
	describe(r, tree, n, depth, KIND_NODE);
	r->flags = flags;
	result = (struct result *)((struct place *)(r + 1) + 1);
	result->retval = retval;
	result->time = now;
	copy_words((u64 *)(result + 1), n->words);
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/* Whether a call has returned, as a new one is made at this key. */
INLINE bool is_stale(const struct node *n, u64 key, bool probe)
{
	if ((n->key ^ key) >> STACK_BITS)
		return false; /* another stack */
	/* Probes see a function that ends by jumping to another one at the key of that. */
	return n->key < key || (n->key == key && !n->probe && !probe);
}

/*
 * Ends calls that have returned without an exit of theirs; returns how many are
 * left. It ends so many at once that the verifier takes no time over more.
 */
INLINE u64 heal(struct tree *tree, u64 depth, u64 key, bool probe)
{
	u64 now = 0;

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_HEALED; i++) {
		struct node *n = depth ? node_at(tree, depth - 1) : 0;

		if (i >= CONFIG(CONFIG_NODES) || !n || !is_stale(n, key, probe))
			break;
		if (!now)
			now = bpf_ktime_get_ns();
		depth--;
		close_node(tree, n, depth, 0, now, FLAG_EXIT_LOST);
	}
	return depth;
}

/*
 * Makes the verifier forget what a number can be, so that it follows what comes
 * next once, not once for each way that led here.
 */
#define FORGET(tree, number)                                                   \
	({                                                                     \
		*(volatile u64 *)&(tree)->scratch = (number);                  \
		number = *(volatile u64 *)&(tree)->scratch;                    \
	})

/* The key of this call. A pointer can't be calculated with before it was in memory. */
INLINE u64 key_of(struct site *site, struct tree *tree)
{
	if (site->access == PROBE)
		return site->frame;
	tree->scratch = (u64)site->ctx;
	barrier();
	return tree->scratch + CONFIG(CONFIG_KEY_AT) + 8 * (u64)site->words;
}

INLINE struct tree *tree_at(u32 at)
{
	return bpf_map_lookup_elem(&trees, &at);
}

/* Whether a call is none of any tree. */
INLINE bool turned_away(void)
{
	return !CONFIG(CONFIG_ROOT) && find_tree(bpf_get_current_task()) == NO_TREE;
}

/*
 * A call at its entry, which was not turned away. Returns the ID of its node; 0:
 * there is none, and its exit is not wanted.
 */
INLINE u64 enter_node(struct site *site)
{
	u64 task = bpf_get_current_task();
	u64 pid_tgid, depth, key, index;
	/* Not the one that was found before: an interrupt may have given it back. */
	u32 at = find_tree(task);
	struct tree *tree;
	struct node *n;
	u64 id = 0;
	u8 where;

	if (at != NO_TREE) {
		tree = tree_at(at);
		if (!tree)
			return 0;
		if (UNLIKELY(!tree->ready)) {
			COUNT(site, recursion);
			return 0;
		}
		if (CONFIG(CONFIG_FILTER_NODE) && ASK(CONFIG_NODE_CONDITION, site->ctx) != ANSWER_YES)
			return 0;
	} else {
		if (!CONFIG(CONFIG_ROOT))
			return 0;
		if (CONFIG(CONFIG_TASK))
			site->task = bpf_get_current_task_btf();
		pid_tgid = get_pid_tgid(site);
		if (!chosen(site, pid_tgid))
			return 0;
		at = claim_tree(task);
		if (at == NO_TREE) {
			COUNT(site, no_tree);
			return 0;
		}
		tree = tree_at(at);
		if (!tree)
			return 0;
		tree->index = at;
		tree->depth = 0;
		tree->pid_tgid = pid_tgid;
		get_comm(site, tree->comm);
	}
	tree->ready = 0;
	barrier();
	index = *(volatile u64 *)&tree->index;
	key = key_of(site, tree);
	depth = heal(tree, tree->depth, key, site->access == PROBE);
	tree->depth = depth;
	FORGET(tree, depth);
	if (!depth && !CONFIG(CONFIG_ROOT))
		goto out; /* the root has returned unseen */
	n = depth ? node_at(tree, depth - 1) : 0;
	if (n && UNLIKELY(is_stale(n, key, site->access == PROBE))) {
		COUNT(site, recursion);
		goto out; /* there is more to heal, next time */
	}
	n = node_at(tree, depth);
	if (!n) {
		if (CONFIG(CONFIG_NODES) == MAX_NODES)
			COUNT(site, too_deep);
		goto out;
	}
	if (CONFIG(CONFIG_NOT_FROM_SIZE)) {
		u64 caller = 0;

		bpf_probe_read_kernel(&caller, sizeof(caller), (void *)key);
		if (caller - CONFIG(CONFIG_NOT_FROM) < CONFIG_AGAIN(CONFIG_NOT_FROM_SIZE))
			goto out;
	}
	where = context(task);
	if (CONFIG(CONFIG_NO_IRQS) && depth && where >= CONTEXT_HARDIRQ)
		goto out;
	id = ++tree->seq | (index + 1) << NODE_TREE_SHIFT;
	n->context = where;
	n->key = key;
	n->id = id;
	n->below = 0;
	n->target = site->target;
	n->cpu = bpf_get_smp_processor_id();
	n->opened = 0;
	n->probe = site->access == PROBE;
	read_words(n->words, site);
	if (CONFIG(CONFIG_EARLY) && !CONFIG(CONFIG_LEAST_TIME) && depth && !n[-1].opened) {
		/* Not n - 1, of which the verifier does not know that it has a parent. */
		struct node *parent = node_at(tree, depth - 1);

		if (parent)
			open_node(tree, parent, depth - 1);
	}
	n->time = bpf_ktime_get_ns();
	if (CONFIG(CONFIG_OUTPUTS) || (CONFIG(CONFIG_STRINGS_ROOM) && site->strings)) {
		struct record *r = bpf_ringbuf_reserve(&events, CONFIG(CONFIG_STRINGS_SIZE), 0);

		if (r) {
			u8 *behind = (u8 *)((struct place *)(r + 1) + 1);

			describe(r, tree, n, depth, KIND_STRINGS);
			if (CONFIG(CONFIG_OUTPUTS))
				TAKE(site->ctx, behind);
			if (CONFIG(CONFIG_STRINGS_ROOM))
				read_strings((struct string *)(behind + CONFIG(CONFIG_OUTPUTS)), n->words, site->strings,
					     CONFIG(CONFIG_STRINGS_ROOM));
			bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
		} else {
			COUNT(site, lost_entries);
		}
	}
	if (CONFIG(CONFIG_SNAPLEN))
		send_packet(site, id, depth);
	tree->depth = depth + 1;
out:
	if (!tree->depth) {
		release_tree(index);
		return id;
	}
	barrier();
	tree->ready = 1;
	return id;
}

/*
 * A call at its return: the one with this ID, or where that is not known, the one
 * that is told by its key.
 */
INLINE void leave_node(struct site *site, u64 id)
{
	u32 at = find_tree(bpf_get_current_task());
	u64 now, index, key = 0, depth, found;
	struct tree *tree;
	struct node *n;

	if (at == NO_TREE)
		return;
	tree = tree_at(at);
	if (!tree)
		return;
	if (UNLIKELY(!tree->ready)) {
		if (CONFIG(CONFIG_SESSION))
			site->target = bpf_get_attach_cookie(site->ctx);
		COUNT(site, recursion);
		return;
	}
	tree->ready = 0;
	barrier();
	/* An interrupt before this point has calls in this one, which began before now. */
	now = bpf_ktime_get_ns();
	index = *(volatile u64 *)&tree->index;
	if (!CONFIG(CONFIG_SESSION))
		key = key_of(site, tree);
	depth = tree->depth;
	found = depth;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_NODES; i++) {
		n = found ? node_at(tree, found - 1) : 0;
		if (i >= CONFIG(CONFIG_NODES) || !n) {
			found = 0;
			break;
		}
		if (CONFIG_AGAIN(CONFIG_SESSION)) {
			if (n->id == id)
				break;
		} else if (n->target == site->target && (n->key == key || (CONFIG_AGAIN(CONFIG_BY_TARGET) && n->probe))) {
			break;
		}
		found--;
	}
	FORGET(tree, found);
	FORGET(tree, depth);
	if (!found)
		goto out; /* its entry was not wanted, or not seen */
	/* What is above has returned, too. */
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_HEALED && depth > found; i++) {
		n = node_at(tree, depth - 1);
		if (i >= CONFIG(CONFIG_NODES) || !n)
			break;
		depth--;
		close_node(tree, n, depth, 0, now, FLAG_EXIT_LOST);
	}
	tree->depth = depth;
	if (depth != found)
		goto out; /* there is more to end, next time */
	depth--;
	n = node_at(tree, depth);
	if (!n)
		goto out;
	close_node(tree, n, depth, read_retval(site), now, 0);
	tree->depth = depth;
	if (!depth) {
		release_tree(index);
		return;
	}
out:
	barrier();
	tree->ready = 1;
}

/*
 * The same without interrupts, where programs may do that (Linux 6.14). While a
 * program runs, the kernel leaves out all runs of it on this CPU, also those for
 * what interrupts it, and for the tasks that take its place: for a time slice, if it
 * is preempted. One program serves all functions, so that would be all of them.
 */
INLINE u64 node_entered(struct site *site)
{
	u64 flags, id;

	if (CONFIG(CONFIG_NO_INTERRUPT))
		irq_save(&flags);
	id = enter_node(site);
	if (CONFIG_AGAIN(CONFIG_NO_INTERRUPT))
		irq_restore(&flags);
	return id;
}

INLINE void node_left(struct site *site, u64 id)
{
	u64 flags;

	if (CONFIG(CONFIG_NO_INTERRUPT))
		irq_save(&flags);
	leave_node(site, id);
	if (CONFIG_AGAIN(CONFIG_NO_INTERRUPT))
		irq_restore(&flags);
}

/* A task is gone, and with it the calls that have not returned. */
INLINE void task_gone(u64 task)
{
	u32 at = find_tree(task);
	struct tree *tree;
	u64 now, depth;

	if (at == NO_TREE)
		return;
	tree = tree_at(at);
	if (!tree)
		return;
	tree->ready = 0;
	now = bpf_ktime_get_ns();
	depth = tree->depth;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_NODES; i++) {
		struct node *n = depth ? node_at(tree, depth - 1) : 0;

		if (i >= CONFIG(CONFIG_NODES) || !n)
			break;
		depth--;
		close_node(tree, n, depth, 0, now, FLAG_EXIT_LOST);
		FORGET(tree, depth);
	}
	release_tree(at);
}

/* How many nodes were under way, at least, when a watched function was called. */
u8 seen[MAX_SEEN];

/* A call of a watched function: it is told of once, or again if less deep. */
INLINE void watched(u64 number)
{
	u32 at = find_tree(bpf_get_current_task());
	struct tree *tree;
	struct record *r;
	u64 depth;

	if (at == NO_TREE)
		return;
	tree = tree_at(at);
	if (!tree || !tree->ready)
		return;
	depth = tree->depth;
	number &= MAX_SEEN - 1;
	if (!depth || depth >= CONFIG(CONFIG_NODES) || (seen[number] && seen[number] <= depth))
		return;
	r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);
	if (!r)
		return; /* the next call is told of */
	seen[number] = depth;
	__builtin_memset(r, 0, sizeof(*r));
	r->frame = number;
	r->target = depth;
	r->kind = KIND_SEEN;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

#endif
