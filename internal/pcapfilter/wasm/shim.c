/*
 * What libpcap's filter compiler needs around it in WebAssembly, and what the host
 * calls: compile(). Names are looked up by the host. An instance compiles once: what
 * fails leaves its memory as it is, with the message in the error buffer.
 */
#include <arpa/inet.h>
#include <net/ethernet.h>
#include <netdb.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pcap-int.h"

#define IMPORT(name) __attribute__((import_module("host"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))

/* An address that a name has: 4 or 16 bytes. */
struct found {
	uint32_t size;
	uint8_t bytes[16];
};

enum { MOST_FOUND = 32 };

/* They return how many there are, at most max; a number, or -1. */
IMPORT(addresses) int host_addresses(const char *name, uint32_t len, struct found *to, uint32_t max);
IMPORT(port) int host_port(const char *name, uint32_t len, int protocol);
IMPORT(protocol) int host_protocol(const char *name, uint32_t len);
IMPORT(network) int64_t host_network(const char *name, uint32_t len);

static struct pcap pcap;
static struct bpf_program program;

/* Where the host writes a filter's text. */
EXPORT(room) char *room(uint32_t bytes) { return malloc(bytes); }

/* Where the message of a failure is. */
EXPORT(message) const char *message(void) { return pcap.errbuf; }

EXPORT(instructions) const struct bpf_insn *instructions(void) { return program.bf_insns; }

/* Returns how many instructions there are, or -1. */
EXPORT(compile) int compile(const char *text, int link_type, int snaplen, int optimize, uint32_t netmask)
{
	pcap.linktype = link_type;
	pcap.snapshot = snaplen;
	pcap.activated = 1;
	/* As of a live capture, where a VLAN's tag may be beside the packet. */
	pcap.bpf_codegen_flags = BPF_SPECIAL_VLAN_HANDLING;
	if (pcap_compile(&pcap, &program, text, optimize, netmask) < 0)
		return -1;
	return program.bf_len;
}

int pcap_snapshot(pcap_t *p) { return p->snapshot; }

int pcap_datalink(pcap_t *p) { return p->linktype; }

int pcap_strcasecmp(const char *a, const char *b) { return strcasecmp(a, b); }

/* The link types that filters are compiled for. */
const char *pcap_datalink_val_to_description_or_dlt(int type)
{
	static char other[24];

	switch (type) {
	case DLT_EN10MB:
		return "Ethernet";
	case DLT_RAW:
		return "Raw IP";
	}
	snprintf(other, sizeof(other), "DLT %d", type);
	return other;
}

static struct addrinfo *answer(const struct found *f, int protocol, int port, struct addrinfo *next)
{
	struct {
		struct addrinfo info;
		union {
			struct sockaddr_in in;
			struct sockaddr_in6 in6;
		} addr;
	} *a = calloc(1, sizeof(*a));

	if (!a)
		return next;
	a->info.ai_protocol = protocol;
	a->info.ai_addr = (struct sockaddr *)&a->addr;
	a->info.ai_next = next;
	if (f && f->size == 16) {
		a->info.ai_family = a->addr.in6.sin6_family = AF_INET6;
		memcpy(&a->addr.in6.sin6_addr, f->bytes, 16);
		a->addr.in6.sin6_port = htons(port);
		a->info.ai_addrlen = sizeof(a->addr.in6);
	} else {
		a->info.ai_family = a->addr.in.sin_family = AF_INET;
		if (f)
			memcpy(&a->addr.in.sin_addr, f->bytes, 4);
		a->addr.in.sin_port = htons(port);
		a->info.ai_addrlen = sizeof(a->addr.in);
	}
	return &a->info;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
	struct found found[MOST_FOUND];
	int n;

	*res = NULL;
	if (!node) {
		int port = host_port(service, strlen(service), hints->ai_protocol);

		if (port < 0)
			return EAI_NONAME;
		*res = answer(NULL, hints->ai_protocol, port, NULL);
		return 0;
	}
	if (inet_pton(AF_INET, node, found[0].bytes) == 1) {
		found[0].size = 4;
		n = 1;
	} else if (inet_pton(AF_INET6, node, found[0].bytes) == 1) {
		found[0].size = 16;
		n = 1;
	} else {
		n = host_addresses(node, strlen(node), found, MOST_FOUND);
	}
	if (n <= 0)
		return EAI_NONAME;
	while (n-- > 0)
		*res = answer(&found[n], hints->ai_protocol, 0, *res);
	return 0;
}

void freeaddrinfo(struct addrinfo *res) { (void)res; /* the instance is given back as a whole */ }

struct netent *getnetbyname(const char *name)
{
	static struct netent net;
	int64_t number = host_network(name, strlen(name));

	if (number < 0)
		return NULL;
	net.n_addrtype = AF_INET;
	net.n_net = number;
	return &net;
}

struct protoent *getprotobyname(const char *name)
{
	static struct protoent proto;

	proto.p_proto = host_protocol(name, strlen(name));
	return proto.p_proto < 0 ? NULL : &proto;
}

int ether_hostton(const char *name, struct ether_addr *addr)
{
	(void)name, (void)addr;
	return -1; /* /etc/ethers */
}
