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
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"fgtrace/internal/pcapfilter"
	"fgtrace/tracer/packet"
	"fgtrace/tracer/plan"
)

// compilePackets begins to compile the filters for packets; the function that it
// returns waits for them.
func (o *options) compilePackets(ctx context.Context) func() (plan.Packets, error) {
	wait := sync.OnceValues(func() (plan.Packets, error) { return o.packets(ctx) })
	go wait()
	return wait
}

func (o *options) packets(ctx context.Context) (p plan.Packets, err error) {
	if len(o.empty) > 0 {
		// A shell's variable that is not set must not show everything.
		return p, fmt.Errorf("parse --%s: there is nothing in it", o.empty[0])
	}
	p.Device = o.filterDev
	if len(p.Device) >= unix.IFNAMSIZ {
		return p, fmt.Errorf("parse --filter-ifname: %q is longer than the %d bytes of a device's name", p.Device, unix.IFNAMSIZ-1)
	}
	if p.Mark, err = parseMark(o.filterMark); err != nil {
		return p, fmt.Errorf("parse --filter-mark: %w", err)
	}
	if p.NetNS, err = parseNetNS(o.filterNetNS); err != nil {
		return p, fmt.Errorf("parse --filter-netns: %w", err)
	}
	if p.Filter, err = compileFilter(ctx, o.filterPkt); err != nil {
		return p, fmt.Errorf("parse --filter-pkt: %w", err)
	}
	tunnel, err := o.parseTunnel()
	if err != nil {
		return p, err
	}
	if tunnel != nil {
		p.Filter.Tunnel = tunnel
	}
	return p, nil
}

// parseTunnel returns what --filter-tunnel asks for; nil: it was not given.
func (o *options) parseTunnel() (*packet.Tunnel, error) {
	switch {
	case !o.tunnel && len(o.tunnelPorts) > 0:
		return nil, errors.New("parse --tunnel-port: it belongs to --filter-tunnel")
	case !o.tunnel:
		return nil, nil
	case o.filterPkt == "":
		return nil, errors.New("parse --filter-tunnel: there is no --filter-pkt that it is about")
	}
	t := &packet.Tunnel{VXLAN: []uint16{4789, 8472}, Geneve: []uint16{6081}} // IANA's, and Linux' own of before
	for _, text := range o.tunnelPorts {
		name, number, _ := strings.Cut(text, ":")
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil || port == 0 {
			return nil, fmt.Errorf("parse --tunnel-port: %q is not like vxlan:4789", text)
		}
		switch name {
		case "vxlan":
			t.VXLAN = append(t.VXLAN, uint16(port))
		case "geneve":
			t.Geneve = append(t.Geneve, uint16(port))
		default:
			return nil, fmt.Errorf("parse --tunnel-port: %q: there are vxlan and geneve", text)
		}
	}
	return t, nil
}

// parseMark reads VALUE[/MASK]; nil: none was given.
func parseMark(text string) (*plan.Mark, error) {
	if text == "" {
		return nil, nil
	}
	value, mask, has := strings.Cut(text, "/")
	m := &plan.Mark{Mask: 1<<32 - 1}
	for _, part := range []struct {
		text string
		to   *uint32
	}{{value, &m.Value}, {mask, &m.Mask}} {
		if part.to == &m.Mask && !has {
			break
		}
		n, err := strconv.ParseUint(part.text, 0, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is no number of 32 bits", part.text)
		}
		*part.to = uint32(n)
	}
	if m.Value&^m.Mask != 0 {
		return nil, fmt.Errorf("no mark has %#x under the mask %#x", m.Value, m.Mask)
	}
	return m, nil
}

// parseNetNS returns the inode of a network namespace: of a name, a path, or an inode.
func parseNetNS(text string) (inode uint64, err error) {
	if text == "" {
		return 0, nil
	}
	path := text
	if !strings.Contains(text, "/") {
		path = "/run/netns/" + text
		_, err := os.Stat(path)
		if n, parseErr := strconv.ParseUint(text, 10, 32); err != nil && parseErr == nil && n > 0 {
			return n, nil
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("find namespace: %w", err)
	}
	defer f.Close()
	if kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		return 0, fmt.Errorf("%q is no network namespace", path)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("find namespace %q: %w", path, err)
	}
	return st.Ino, nil
}

// compileFilter compiles a pcap filter; nil: none was given. An expression that libpcap
// only takes for packets with a link header matches nothing without one.
func compileFilter(ctx context.Context, text string) (*packet.Filter, error) {
	if text == "" {
		return nil, nil
	}
	const (
		snaplen = 262144 // anything but 0: matches
		// A machine that is emulated beside others takes seconds for any filter.
		most = 20 * time.Second
	)
	f := &packet.Filter{Text: text}
	var ethernetErr, rawErr error
	compile := func(link int) ([]bpf.RawInstruction, error) {
		return pcapfilter.Compile(ctx, text, pcapfilter.Options{LinkType: link, Snaplen: snaplen, Names: hostNames(ctx), MaxTime: most})
	}
	var wg sync.WaitGroup
	wg.Go(func() { f.Ethernet, ethernetErr = compile(pcapfilter.Ethernet) })
	wg.Go(func() { f.Raw, rawErr = compile(pcapfilter.Raw) })
	wg.Wait()
	var refused *pcapfilter.Error
	switch {
	case ethernetErr != nil:
		return nil, ethernetErr
	case rawErr == nil:
	case !errors.As(rawErr, &refused) || refused.Limit:
		return nil, rawErr
	default:
		f.NoRaw = refused.Msg
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
