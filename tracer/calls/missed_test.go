package calls

import (
	"testing"

	"fgtrace/tracer/event"
)

// An exit must not be joined to an older call with its frame, where the kernel
// may have left out what lay between the two.
func TestMissed(t *testing.T) {
	for name, test := range map[string]struct {
		missed bool // an exit and an entry, since the entry
		exitAt uint64
		exitBy uint32
		joined bool
	}{
		"nothing missed":                   {exitAt: 50_000, exitBy: 7, joined: true},
		"missed":                           {missed: true, exitAt: 50_000, exitBy: 7},
		"missed, too short to be two":      {missed: true, exitAt: 1_000 + missable - 1, exitBy: 7, joined: true},
		"missed, just long enough":         {missed: true, exitAt: 1_000 + missable, exitBy: 7},
		"another task has the frame":       {exitAt: 50_000, exitBy: 8},
		"exit before the entry that is it": {exitAt: 999, exitBy: 7},
	} {
		t.Run(name, func(t *testing.T) {
			a := Assembler{Missed: func(target int, since uint64) bool {
				if target != 3 || since != 1_000 {
					t.Errorf("asked for target %d since %d", target, since)
				}
				return test.missed
			}}
			a.Enter(&event.Record{Kind: event.Entry, Target: 3, Frame: 0xf0, Time: 1_000, Tid: 7})
			c := a.Leave(&event.Record{Kind: event.Exit, Target: 3, Frame: 0xf0, Time: test.exitAt, Tid: test.exitBy})
			if c.Entered != test.joined {
				t.Errorf("joined: %v", c.Entered)
			}
			want := Counts{}
			if !test.joined {
				want = Counts{NoEntry: 1, NoExit: 1}
			}
			if got := a.Counts(); got != want {
				t.Errorf("counts %+v, want %+v", got, want)
			}
		})
	}
}
