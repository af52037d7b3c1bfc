/* What libpcap's configure would find out of the system that shim.c makes up. */
#define HAVE_ASPRINTF 1
#define HAVE_DECL_ETHER_HOSTTON 1
#define HAVE_ETHER_HOSTTON 1
#define HAVE_INTTYPES_H 1
#define HAVE_STDINT_H 1
#define HAVE_STRLCAT 1
#define HAVE_STRLCPY 1
#define HAVE_STRTOK_R 1
#define HAVE_UNISTD_H 1
#define HAVE_VASPRINTF 1
#define HAVE_STRERROR_R 1
#define HAVE_POSIX_STRERROR_R 1
#define NET_ETHERNET_H_DECLARES_ETHER_HOSTTON 1
#define INET6 1
#define PACKAGE_NAME "pcap"
#define SIZEOF_CONST_CHAR_P 4
#define SIZEOF_VOID_P 4

/* What linux/filter.h has of VLAN tags: Linux' extensions to classic BPF. */
#define SKF_AD_OFF (-0x1000)
#define SKF_AD_VLAN_TAG 44
#define SKF_AD_VLAN_TAG_PRESENT 48
