#ifndef SHIM_NET_ETHERNET_H
#define SHIM_NET_ETHERNET_H

struct ether_addr {
	unsigned char ether_addr_octet[6];
};

int ether_hostton(const char *name, struct ether_addr *addr);

#endif
