/*
 * Prints what a C compiler makes of each expression, and writes the memory that it
 * is made over: see askCompiler.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "types.h"

#define NULL ((void *)0)
#define MEMORY 0x10000000UL
#define SIZE 0x1000

static void fill(struct params *a)
{
	struct packet *p = (void *)MEMORY;
	struct device *dev = (void *)(MEMORY + 0x400), *other = dev + 1;
	unsigned char *head = (void *)(MEMORY + 0x800);
	struct header *h = (void *)(head + 20);

	for (int i = 0; i < SIZE; i++)
		((u8 *)MEMORY)[i] = i * 37 + 11;
	*dev = (struct device){.ifindex = 2, .name = "eth0", .next = other, .alias = (char *)head, .addr = {2, 0, 0xfe, 0x80, 1, 255}};
	*other = (struct device){.ifindex = -7, .name = "a-name-of-15-by", .next = dev};
	*p = (struct packet){
		.len = 1500, .data_len = 0xfffffff0, .b = 200, .sb = -100, .h = 65000, .sh = -30000, .i = -2000000000,
		.q = 0xfedcba9876543210, .sq = -5, .l = -1234567890123, .ul = ~0UL, .yes = 1, .state = BUSY,
		.negative = MINUS, .head = head, .network_header = 20, .dev = dev, .cookie = (void *)0xffff888012345678,
		.mark = 0x12348765, .nested = {.depth = 3, .in = {.deeper = -4}}, .one = 1, .three = 5, .twelve = 0xabc,
		.rest = 0x8001, .sthree = -2, .stwenty = -300000, .wide = 0xfffffffffe, .more = 0x80001, .full = 0x89abcdef, .btwo = 1, .bfour = 1,
		.devs = {*other, *dev}, .list = {dev, other, NULL},
	};
	for (int i = 0; i < 12; i++)
		p->grid[i / 4][i % 4] = i * i * (i % 2 ? -1 : 1);
	*h = (struct header){.ihl = 5, .version = 4, .tos = 16, .tot_len = 0xdc05, .saddr = 0x0100007f};
	strcpy((char *)head, "an alias");
	*a = (struct params){
		.p = p, .again = p, .n = -5, .u = 4000000000, .l = -9000000000, .ul = 0x8000000000000000, .c = 'x', .b = 250,
		.sh = -2, .yes = 1, .state = LOST, .negative = MINUS, .ptr = head, .text = (char *)head, .bytes = head, .devs = p->list,
	};
}

int main(int argc, char **argv)
{
	struct params a;
	FILE *f = fopen(argv[1], "w");

	mmap((void *)MEMORY, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	fill(&a);
	memcpy((void *)(MEMORY + 0xc00), &a, sizeof(a));
	fwrite((void *)MEMORY, SIZE, 1, f);
	fclose(f);

	struct packet *p = a.p;
	packet_t *again = a.again;
	int n = a.n;
	unsigned int u = a.u;
	long l = a.l;
	unsigned long ul = a.ul;
	char c = a.c;
	u8 b = a.b;
	s16 sh = a.sh;
	_Bool yes = a.yes;
	_Bool no = a.no;
	enum state state = a.state;
	enum negative negative = a.negative;
	void *ptr = a.ptr;
	const char *text = a.text;
	u8 *bytes = a.bytes;
	struct device **devs = a.devs;
#define VALUE(e) printf("%llx\n", (unsigned long long)(e));
#include "expressions.inc" /* VALUE(each of expressions.txt) */
	return 0;
}
