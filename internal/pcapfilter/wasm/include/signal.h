/* A flag in struct pcap has this type; there are no signals. */
#ifndef SHIM_SIGNAL_H
#define SHIM_SIGNAL_H

typedef int sig_atomic_t;

#endif
