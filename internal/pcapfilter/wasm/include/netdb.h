/* What nametoaddr.c asks of the network's databases: see shim.c. */
#ifndef SHIM_NETDB_H
#define SHIM_NETDB_H

#include <netinet/in.h>
#include <sys/socket.h>

struct addrinfo {
	int ai_flags, ai_family, ai_socktype, ai_protocol;
	socklen_t ai_addrlen;
	struct sockaddr *ai_addr;
	char *ai_canonname;
	struct addrinfo *ai_next;
};

struct netent {
	char *n_name, **n_aliases;
	int n_addrtype;
	unsigned n_net;
};

struct protoent {
	char *p_name, **p_aliases;
	int p_proto;
};

struct servent {
	char *s_name, **s_aliases;
	int s_port;
	char *s_proto;
};

struct hostent {
	char *h_name, **h_aliases;
	int h_addrtype, h_length;
	char **h_addr_list;
};

#define h_addr h_addr_list[0]
#define EAI_NONAME (-2)
#define EAI_SERVICE (-8)
#define PF_UNSPEC AF_UNSPEC

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res);
void freeaddrinfo(struct addrinfo *res);
struct hostent *gethostbyname(const char *name); /* never called */
struct netent *getnetbyname(const char *name);
struct protoent *getprotobyname(const char *name);
struct servent *getservbyname(const char *name, const char *proto);

#endif
