/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs and user space say to each other: the records of the ring
 * buffer, the counters, the control word, and the constants that the loader
 * writes into a program. The Go side in wire/ is generated from this file.
 */
#ifndef FGTRACE_WIRE_H
#define FGTRACE_WIRE_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;

enum limit {
	MAX_WORDS = 12,    /* argument words of 8 bytes: MAX_BPF_FUNC_ARGS of include/linux/bpf.h */
	COMM_SIZE = 16,    /* TASK_COMM_LEN */
	STRING_DATA = 124, /* bytes of a string that are copied, its NUL included */
	MAX_FRAMES = 127,  /* kernel.perf_event_max_stack's default: what the kernel collects */
	FEW_FRAMES = 48,   /* asked for first: the kernel clears what it does not fill */
	SLOT_BITS = 12,    /* 2^12 calls under way are remembered in the kernel */
	MAX_NODES = 64,    /* calls under way in one tree of a function graph */
	MAX_HEALED = 8,    /* calls that are ended at once, as their exits were not seen */
	TREE_BUCKET_BITS = 8,
	TREE_BUCKETS = 1 << TREE_BUCKET_BITS, /* of tasks that have a tree, */
	TREE_WAY_BITS = 2,
	TREE_WAYS = 1 << TREE_WAY_BITS,       /* with so many in each */
	NODE_TREE_SHIFT = 40, /* a node's ID is a number in its tree, and from here on the tree's + 1 */
	STACK_BITS = 14,   /* kernel stacks are aligned to 2^14 bytes, and at least as large */
	MAX_SEEN = 1 << 16, /* functions that are watched for calls in trees */
	MAX_FRAGS = 17,     /* MAX_SKB_FRAGS' default */
	MAX_SEGMENTS = 256, /* that are followed of a packet which is cut up at once */
	PACKET_BYTES = 4,   /* that a filter reads at a time, at most */
	MAX_PACKET = 65536, /* bytes of a packet that are sent, at most */
	PEEK_SIZE = 16384,  /* bytes of kernel memory that are read at a time */
	CONFIG_MARK = 0x5ca1ab1e00000000ULL, /* see enum config */
	CONFIG_RETVAL_WORD = 0xf00, /* stands for the number of argument words in a load from ctx */
	CONFIG_REGS_ARG = 0xe00,    /* +i stands for the offset of the i-th argument in struct pt_regs, */
	CONFIG_REGS_RETVAL = 0xe80, /* of the return value, */
	CONFIG_REGS_SP = 0xe81,     /* and of the stack pointer */
	CONFIG_TASK_PID = 0xe90,    /* stand for offsets in struct task_struct */
	CONFIG_TASK_TGID = 0xe91,
	CONFIG_TASK_COMM = 0xe92,
	CONFIG_TASK_COMM_HI = 0xe93,
	CONFIG_IS_RETURN = 0x5e55,  /* as a helper's number: stands for kfunc bpf_session_is_return, */
	CONFIG_COOKIE = 0x5e56,     /* for kfunc bpf_session_cookie */
	CONFIG_IRQ_SAVE = 0x5e57,    /* for kfunc bpf_local_irq_save, */
	CONFIG_IRQ_RESTORE = 0x5e58, /* for kfunc bpf_local_irq_restore */
	CONFIG_PACKET_BYTES = 0x5e59, /* for packet_bytes */
	COOKIE_WORDS_SHIFT = 32,    /* an attach cookie is the target, from here on its argument words, */
	COOKIE_STRINGS_SHIFT = 40,  /* and from here on what CONFIG_STRINGS has elsewhere */
};

enum kind {
	KIND_ENTRY = 1,
	KIND_EXIT = 2,
	KIND_CALL = 3, /* an entry and its exit in one */

	/* Of a function graph, where a call comes as one KIND_NODE at its exit. */
	KIND_OPEN = 4,    /* a call that has begun, and whose children come next */
	KIND_STRINGS = 5, /* what strings a call was given, and its outputs */
	KIND_NODE = 6,
	KIND_SEEN = 7,    /* a function that is not traced was called in a tree */

	KIND_PACKET = 8, /* a call's packet, in one or more: before its entry; in a graph behind */
};

enum flag {
	FLAG_ENTRY_LOST = 1, /* exit: the entry of this very call found no room */
	FLAG_EXIT_LOST = 2,  /* node: it has returned, but its exit was not seen */
	FLAG_UNWANTED = 4,   /* exit: the call is not to be shown, as of its result */
	FLAG_PACKET = 8,     /* entry: its packet went before */
};

/*
 * Every record begins so. An entry goes on with `words` argument words, with the
 * outputs that are asked for, one struct string for each bit in CONFIG_STRINGS, and,
 * where stacks are asked for, u64 frames[MAX_FRAMES] of which the first `frames` are filled. An exit
 * goes on with struct result; a call with that, and then with what an entry has.
 * Those of a function graph go on with struct place, then: an open node with its
 * words, strings with outputs and strings, a node with struct result and its words. A
 * packet goes on with struct packet, whose record's frame is that of its call. Seen
 * is a struct record only: the number of the function is its frame, the nodes that
 * are under way are its target.
 */
struct record {
	u64 time;     /* ns, CLOCK_MONOTONIC: of a call's entry; entry: as late as can be, exit: as early */
	u64 frame;    /* one per live call: address of the trampoline's argument array; see on_probe */
	u64 pid_tgid; /* tgid in the upper half, in the initial PID namespace */
	u32 target;   /* index in the plan */
	u16 cpu;
	u8 kind;      /* enum kind */
	u8 flags;     /* enum flag */
	s64 frames;   /* entry, call: of the stack, their number, or bpf_get_stack's negative error;
			 exit: control.unsure; packet: the node's depth */
	u8 comm[COMM_SIZE]; /* at the entry, up to a NUL; not in an exit */
};

struct result {
	u64 retval;
	u64 time; /* of the exit */
};

/*
 * A call under way, whose entry was not sent: the exit sends it all. It is found
 * by its frame.
 */
struct slot {
	u64 frame;    /* 0: free */
	u64 time;
	u64 pid_tgid;
	u32 target;
	u32 cpu;
	u8 comm[COMM_SIZE];
	u64 words[MAX_WORDS];
};

enum context {
	CONTEXT_TASK,
	CONTEXT_SOFTIRQ,
	CONTEXT_HARDIRQ,
	CONTEXT_NMI,
};

/* A call's place in a function graph. Its record's frame is its ID there. */
struct place {
	u64 parent; /* ID; 0: a root */
	u64 below;  /* ns that the calls took which were made in it */
	u8 depth;   /* 0: a root */
	u8 context; /* enum context */
	u8 outer;   /* the parent's context */
	u8 opened;  /* it was told of before, by KIND_OPEN */
	u8 pad[4];
};

/* A call under way in a function graph. */
struct node {
	u64 key; /* see graph.h */
	u64 id;
	u64 time;
	u64 below;
	u32 target;
	u16 cpu;
	u8 context;
	u8 opened;
	u64 probe; /* its key is that of a probe */
	u64 words[MAX_WORDS];
};

/* The calls under way of one task, from a root on. */
struct tree {
	u64 pid_tgid;
	u64 comm[2];
	u64 seq;     /* nodes so far */
	u64 scratch;
	u64 index;   /* in the map */
	u32 depth;   /* nodes that there are */
	u32 ready;   /* 0: free, or a program is at work on it */
	struct node none; /* the root's parent: zero, but for `below` */
	struct node nodes[MAX_NODES];
};

/* A value that was asked for, which goes on with as many bytes as it has, up to a
 * multiple of 8. */
struct output {
	s64 status; /* bytes; 0: it was behind a NULL pointer; negative: error */
};

struct string {
	s32 len; /* bytes with the NUL; STRING_DATA: maybe cut off; negative: error */
	u8 data[STRING_DATA];
};

/* A packet at a call's entry, which goes on with the bytes that are there. */
struct packet {
	u64 start;  /* its address */
	s64 linear; /* bytes that follow one another there; may be negative */
	s64 length; /* of all of it */
	u64 shared; /* address of the struct skb_shared_info; 0: there is none */
	u32 size;   /* of the bytes behind this */
	u8 raw;     /* 1: it begins with a network header, 0: with one of Ethernet */
	u8 more;    /* 1: not the packet, but bytes of it that come next, or that could not be read */
	u16 vlan_proto; /* of a tag that is not in the packet; 0: there is none */
	u16 vlan_tci;
	u8 pad[6];
};

/* Per target and CPU. */
struct counters {
	u64 lost_entries; /* no room in the ring buffer */
	u64 lost_exits;
	u64 self;         /* calls of the tracer itself, left out */
	u64 recursion;    /* left out by our own guard, where the kernel has none */
	u64 no_exit;      /* whose slot was found by another call with the same frame */
	u64 no_tree;      /* roots left out, as too many tasks had one */
	u64 too_deep;     /* nodes left out, as too many were under way in their tree */
	u64 unread;       /* calls left out, as it could not be read whether their packets match */
	u64 lost_packets; /* no room in the ring buffer, for all of one or for a fragment */
	u64 no_packet;    /* it can't be told where a packet is, or it can't be read */
};

/* What is answered to a condition. */
enum answer {
	ANSWER_NO,
	ANSWER_YES,
	ANSWER_UNREAD, /* nobody knows: a packet could not be read */
};

/* One for all programs, written by user space. */
struct control {
	u64 gate; /* 0: every program returns at once */

	/*
	 * Where the preempt count is, to tell task context from interrupts.
	 * base 0: at preempt_count in current (arm64, a task_struct offset);
	 * else at *(base + 8 * cpu) + preempt_count (x86, per-CPU).
	 */
	u64 percpu_base;
	u64 preempt_count;
	u64 interrupt_mask;
	u64 softirq_mask, hardirq_mask, nmi_mask; /* its parts */

	u64 losses; /* records that found no room, over all targets */
	u64 unsure; /* ns: of entries lost up to then, not all could be remembered; 0: all */

	u64 pages;     /* address of the first struct page; 0: not known */
	u64 page_base; /* address of the memory that it is about */

	u64 arm_fork; /* the next fork of the tracer is the command: follow it */
	u64 lost_opens; /* open nodes not told of */
	u64 lost_pids; /* processes that found no room in the set */
	u64 alone; /* calls under way whose entries were sent by themselves, with CONFIG_FILTER */

	u64 following;  /* packets that are followed */
	u64 followed;   /* and have been, with their copies */
	u64 unfollowed; /* could not be, for want of room */
};

/*
 * Constants of one loaded program. The C side reads them by CONFIG(), which is
 * an instruction that loads CONFIG_MARK + id; the loader replaces that value
 * before the verifier sees it, so that what is not asked for is dead code.
 */
enum config {
	CONFIG_TARGET,      /* index in the plan, where the program has one target */
	CONFIG_RECORD_SIZE, /* of an entry, in bytes */
	CONFIG_CALL_SIZE,   /* of a call, in bytes */
	CONFIG_WORDS,       /* argument words in a record, at most MAX_WORDS */
	CONFIG_STRINGS,     /* bit i: word i is a char pointer to be read */
	CONFIG_OUTPUTS,     /* bytes of outputs in a record */
	CONFIG_PAGE_SIZE,   /* of a struct page; 0: fragments are not wanted */
	CONFIG_PAGE_SHIFT,
	CONFIG_NR_FRAGS,    /* offsets in struct skb_shared_info */
	CONFIG_FRAGS,
	CONFIG_MOST_FRAGS,  /* that it has room for */
	CONFIG_SNAPLEN,     /* bytes of a call's packet that are sent, at most; 0: none is */
	CONFIG_STACK_AT,    /* offset of frames[] in an entry; 0: no stack */
	CONFIG_CALL_STACK_AT, /* the same in a call */
	CONFIG_SLOTS,       /* 1: the entry is kept in a slot and sent with the exit */
	CONFIG_COPY_CTX,    /* 1: this kernel lets programs load few types of ctx; copy its memory */
	CONFIG_RETVAL,      /* 1: the function returns a value */
	CONFIG_SELF,        /* the tracer's tgid; 0: its calls are wanted too */
	CONFIG_PIDS,        /* 1: only processes in the set */
	CONFIG_CGROUP,      /* 1: only tasks in a cgroup, or below it */
	CONFIG_COMM,        /* 1: only tasks of this name */
	CONFIG_COMM_LO,     /* the name, 16 bytes padded with NUL */
	CONFIG_COMM_HI,
	CONFIG_GUARD,       /* 1: this kernel doesn't guard programs against recursion */
	CONFIG_FORK_TGID,   /* offset of tgid in task_struct */
	CONFIG_TASK,        /* 1: programs may read the current task_struct like their own memory */
	CONFIG_FRAME_AT,    /* of an exit: the entry's frame is so far behind ctx, 0 for one of a trampoline */
	CONFIG_SESSION,     /* 1: the program runs at returns too */
	CONFIG_REGS,        /* argument words that calls pass in registers */
	CONFIG_STACK_ARGS,  /* where the others are, from the stack pointer at the entry on */
	CONFIG_FILTER,      /* 1: only calls for which a condition holds at the entry; 2: and they have exits */
	CONFIG_FILTER_RESULT, /* 1: and another one of the result */
	CONFIG_LEAST_TIME,  /* ns that a call must have taken; in a graph a node */
	CONFIG_FOLLOW,      /* 1: packets of calls that are shown are followed: all their calls are shown */
	CONFIG_IF_STOLEN,   /* 1: a function frees a packet only if its second argument holds */
	CONFIG_COPY_OF,     /* the argument word, from 1 on, of what a new packet is a copy of; 0: it is none */
	CONFIG_SEGMENTS,    /* 1: more new packets may follow, */
	CONFIG_SKB_NEXT,    /* by this offset in struct sk_buff */

	CONFIG_GRAPH,     /* 1: calls are nodes of a function graph */
	CONFIG_ROOT,      /* 1: these begin a tree */
	CONFIG_NODES,     /* nodes that a tree has room for, at most MAX_NODES */
	CONFIG_EARLY,     /* 1: a node is told of when the first call is made in it, or has been with CONFIG_LEAST_TIME */
	CONFIG_NO_IRQS,   /* 1: what hardware interrupts call is left out */
	CONFIG_KEY_AT,    /* of trampolines: the key is so far behind the last argument word */
	CONFIG_NO_INTERRUPT, /* 1: programs may keep interrupts away */
	CONFIG_NOT_FROM,  /* calls from here on, and that many bytes, are no nodes; size 0: all are */
	CONFIG_NOT_FROM_SIZE,
	CONFIG_BY_TARGET, /* 1: an exit has no key: it is that of its function's last call */
	CONFIG_MAX_WORDS, /* argument words of the function that has the most */
	CONFIG_OPEN_SIZE, /* of the records, in bytes */
	CONFIG_STRINGS_SIZE,
	CONFIG_STRINGS_ROOM, /* strings that a record has room for */
	CONFIG_NODE_SIZE,
	CONFIG_FILTER_NODE, /* 1: only nodes for which a condition holds, but for roots */

	/* No constants: the loader puts code in place of their loads, see ASK. */
	CONFIG_CONDITION,
	CONFIG_RESULT_CONDITION,
	CONFIG_NODE_CONDITION,
	CONFIG_TAKE,   /* see TAKE */
	CONFIG_LOCATE, /* see LOCATE */
	CONFIG_SKB,    /* see SKB_OF */
};

#endif
