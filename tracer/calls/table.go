package calls

// table finds open calls by frame: a hash table with linear probing, which a
// call enters and leaves for a few dozen instructions.
type table struct {
	slots []slot // a power of two of them, at most half of them used
	used  int
}

type slot struct {
	frame uint64
	call  *Call // nil: free
}

const minSlots = 64

func (t *table) home(frame uint64) int {
	// Frames differ in their low bits, above the lowest three, which are zero.
	return int(frame * 0x9e3779b97f4a7c15 >> 32 & uint64(len(t.slots)-1))
}

// put adds a call and returns the one that had the frame before, or nil.
func (t *table) put(frame uint64, c *Call) *Call {
	if 2*(t.used+1) > len(t.slots) {
		t.grow()
	}
	i := t.home(frame)
	for t.slots[i].call != nil {
		if t.slots[i].frame == frame {
			old := t.slots[i].call
			t.slots[i].call = c
			return old
		}
		i = (i + 1) & (len(t.slots) - 1)
	}
	t.slots[i] = slot{frame, c}
	t.used++
	return nil
}

// take removes the call at a frame and returns it, or nil.
func (t *table) take(frame uint64) *Call {
	if t.used == 0 {
		return nil
	}
	mask := len(t.slots) - 1
	i := t.home(frame)
	for t.slots[i].frame != frame || t.slots[i].call == nil {
		if t.slots[i].call == nil {
			return nil
		}
		i = (i + 1) & mask
	}
	c := t.slots[i].call
	// Close the gap: a later slot whose probe passes here moves up.
	for j := i; ; {
		j = (j + 1) & mask
		if t.slots[j].call == nil {
			break
		}
		if home := t.home(t.slots[j].frame); (j-home)&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = slot{}
	t.used--
	return c
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]slot, max(minSlots, 2*len(old)))
	t.used = 0
	for _, s := range old {
		if s.call != nil {
			t.put(s.frame, s.call)
		}
	}
}
