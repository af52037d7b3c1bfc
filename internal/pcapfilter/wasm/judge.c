/*
 * libpcap's bpf_filter() for tests: they compare with it what else runs filters.
 */
#include <stdint.h>
#include <stdlib.h>

#include "pcap-int.h"

#define EXPORT(name) __attribute__((export_name(#name)))

/* Where the host writes what judge() gets. */
EXPORT(room) void *room(uint32_t bytes) { return malloc(bytes); }

/* Runs a filter over packets that follow one another. A result is not 0 if it matches. */
EXPORT(judge) void judge(const struct bpf_insn *filter, const uint8_t *packets, const uint32_t *lengths, uint32_t count, uint32_t *results)
{
	for (uint32_t i = 0; i < count; i++) {
		results[i] = bpf_filter(filter, packets, lengths[i], lengths[i]);
		packets += lengths[i];
	}
}
