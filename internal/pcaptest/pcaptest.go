// Package pcaptest has filters, packets, and what libpcap says which filter matches which
// packet: for tests of what else runs filters. Nothing but the code of libpcap's
// bpf_filter(3), as WebAssembly, is asked; ../pcapfilter/wasm says how that is made.
//
// libpcap is too slow in a guest of the matrix: a Set is made on the host.
package pcaptest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/gob"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/net/bpf"

	"fgtrace/internal/pcapfilter"
)

//go:embed expressions.txt
var expressions string

// Expressions are such as pcap-filter(7) has.
func Expressions() []string { return strings.Split(strings.TrimSuffix(expressions, "\n"), "\n") }

// Set is filters and packets.
type Set struct {
	Packets []Packet
	Filters []Filter
}

// Filter is one in classic BPF.
type Filter struct {
	Text     string
	Ethernet []bpf.RawInstruction
	Raw      []bpf.RawInstruction // nil: it matches nothing
	Verdicts []Verdict            // libpcap's, of a set's packets
}

// Verdict is whether a filter matches a packet.
type Verdict uint8

const (
	No Verdict = iota
	Yes
	Endless // libpcap never tells
)

func (v Verdict) String() string { return [...]string{"no", "yes", "endless"}[v] }

// code is what runs on a packet; nil: nothing, and it doesn't match.
func (f *Filter) code(p Packet) []bpf.RawInstruction {
	if p.Link == pcapfilter.Raw {
		return f.Raw
	}
	return f.Ethernet
}

// Known is a set of Expressions and random packets. A seed makes the same one each time.
func Known(ctx context.Context, seed uint64, packets int) (*Set, error) {
	s := &Set{Packets: Packets(newRand(seed), packets)}
	for _, text := range Expressions() {
		s.Filters = append(s.Filters, Filter{Text: text})
	}
	if err := s.compile(ctx, true); err != nil {
		return nil, err
	}
	return s, s.judge(ctx)
}

// Random is a set of so many random expressions, less those that libpcap refuses or makes
// no sense of, as many random programs, and random packets.
func Random(ctx context.Context, seed uint64, filters, packets int) (*Set, error) {
	r := newRand(seed)
	s := &Set{Packets: Packets(r, packets)}
	w := writer{maker{r}, Expressions()}
	for range filters {
		s.Filters = append(s.Filters, Filter{Text: w.expression(3)})
	}
	if err := s.compile(ctx, false); err != nil {
		return nil, err
	}
	for i := range filters {
		code := w.program()
		s.Filters = append(s.Filters, Filter{Text: fmt.Sprintf("program %d", i), Ethernet: code, Raw: code})
	}
	return s, s.judge(ctx)
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// compile makes code of the filters' texts. Those that libpcap refuses for packets with an
// Ethernet header are an error, or left out, as are those whose code has no meaning.
func (s *Set) compile(ctx context.Context, all bool) error {
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.NumCPU()) // each has a limited time
	errs := make([]error, len(s.Filters))
	for i := range s.Filters {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = s.Filters[i].compile(ctx)
		})
	}
	wg.Wait()
	var compiled []Filter
	for i, err := range errs {
		if isRefusal(err) && !all {
			continue
		}
		if err != nil {
			return err
		}
		f := s.Filters[i]
		if !all && (readsUnwritten(f.Ethernet) || readsUnwritten(f.Raw)) {
			continue
		}
		compiled = append(compiled, f)
	}
	s.Filters = compiled
	return nil
}

func (f *Filter) compile(ctx context.Context) (err error) {
	o := pcapfilter.Options{LinkType: pcapfilter.Ethernet, Snaplen: 262144}
	o.Names.Protocol = func(name string) (int, bool) { return 6, name == "tcp" }
	if f.Ethernet, err = pcapfilter.Compile(ctx, f.Text, o); err != nil {
		return err
	}
	o.LinkType = pcapfilter.Raw
	f.Raw, err = pcapfilter.Compile(ctx, f.Text, o)
	if isRefusal(err) {
		return nil
	}
	return err
}

func isRefusal(err error) bool {
	var refused *pcapfilter.Error
	return errors.As(err, &refused)
}

// judge asks libpcap.
func (s *Set) judge(ctx context.Context) error {
	j, err := newJudge(ctx)
	if err != nil {
		return err
	}
	defer j.close()
	for i := range s.Filters {
		s.Filters[i].Verdicts = make([]Verdict, len(s.Packets))
	}
	for _, link := range []int{pcapfilter.Ethernet, pcapfilter.Raw} {
		var packets [][]byte
		var numbers []int
		for i, p := range s.Packets {
			if p.Link == link {
				packets, numbers = append(packets, p.Bytes), append(numbers, i)
			}
		}
		if err := j.load(packets); err != nil {
			return err
		}
		for i := range s.Filters {
			f := &s.Filters[i]
			code := f.code(Packet{Link: link})
			if code == nil {
				continue
			}
			verdicts, err := j.run(code)
			if err != nil {
				return fmt.Errorf("run filter %q: %w", f.Text, err)
			}
			for k, number := range numbers {
				f.Verdicts[number] = verdicts[k]
			}
		}
	}
	return nil
}

// Encode writes a set for Decode.
func (s *Set) Encode() ([]byte, error) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(s); err != nil {
		return nil, fmt.Errorf("encode filters and packets: %w", err)
	}
	return b.Bytes(), nil
}

// Decode reads what Encode wrote.
func Decode(raw []byte) (*Set, error) {
	s := &Set{}
	if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(s); err != nil {
		return nil, fmt.Errorf("decode filters and packets: %w", err)
	}
	return s, nil
}
