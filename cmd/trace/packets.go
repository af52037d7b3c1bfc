package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/bpf"

	"fgtrace/internal/pcapfilter"
	"fgtrace/tracer/packet"
)

// packetFilter compiles --filter-pkt; nil: it was not given. An expression that only
// makes sense with a link header matches nothing without one.
func (o *options) packetFilter(ctx context.Context) (*packet.Filter, error) {
	if o.filterPkt == "" {
		return nil, nil
	}
	const snaplen = 262144 // anything but 0: matches
	f := &packet.Filter{Text: o.filterPkt}
	var ethernetErr, rawErr error
	compile := func(link int) ([]bpf.RawInstruction, error) {
		return pcapfilter.Compile(ctx, o.filterPkt, pcapfilter.Options{LinkType: link, Snaplen: snaplen, Names: hostNames(ctx)})
	}
	var wg sync.WaitGroup
	wg.Go(func() { f.Ethernet, ethernetErr = compile(pcapfilter.Ethernet) })
	wg.Go(func() { f.Raw, rawErr = compile(pcapfilter.Raw) })
	wg.Wait()
	var refused *pcapfilter.Error
	switch {
	case ethernetErr != nil:
		return nil, fmt.Errorf("parse --filter-pkt: %w", ethernetErr)
	case rawErr != nil && !errors.As(rawErr, &refused):
		return nil, fmt.Errorf("parse --filter-pkt: %w", rawErr)
	}
	return f, nil
}

// hostNames looks names up where this machine does.
func hostNames(ctx context.Context) pcapfilter.Names {
	return pcapfilter.Names{
		Addresses: func(host string) (found []netip.Addr) {
			addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			if err != nil {
				return nil
			}
			for _, a := range addrs {
				found = append(found, a.Unmap())
			}
			return found
		},
		Port: func(service, protocol string) (int, bool) {
			if protocol == "" {
				protocol = "tcp"
				if port, err := net.DefaultResolver.LookupPort(ctx, "udp", service); err == nil {
					return port, true
				}
			}
			port, err := net.DefaultResolver.LookupPort(ctx, protocol, service)
			return port, err == nil
		},
		Protocol: func(name string) (int, bool) { return lookFor("/etc/protocols", name) },
	}
}

// lookFor finds the number of a name in a file such as protocols(5).
func lookFor(file, name string) (int, bool) {
	f, err := os.Open(file)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "#")
		fields := strings.Fields(line)
		for i, field := range fields {
			if i != 1 && field == name && len(fields) > 1 {
				n, err := strconv.Atoi(fields[1])
				return n, err == nil
			}
		}
	}
	return 0, false
}
