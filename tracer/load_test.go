package tracer

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHalving attaches numbers, some of which a fake kernel refuses.
func TestHalving(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		n      int
		errs   map[int]error // of attaching these
		left   int
		refuse []int
		err    error
		tries  int
	}{
		"nothing":            {0, nil, 9, nil, nil, 0},
		"all":                {100, nil, 9, nil, nil, 1},
		"one is refused":     {8, map[int]error{5: unix.EINVAL}, 9, []int{5}, nil, 7},
		"the only one":       {1, map[int]error{0: unix.EBUSY}, 9, []int{0}, nil, 1},
		"two":                {8, map[int]error{0: unix.EINVAL, 7: unix.ENOENT}, 9, []int{0, 7}, nil, 11},
		"too many":           {8, map[int]error{0: unix.EINVAL, 1: unix.EINVAL, 2: unix.EINVAL}, 2, []int{0, 1, 2, 3, 4, 5, 6, 7}, nil, 5},
		"not by this kernel": {8, map[int]error{3: unix.EOPNOTSUPP}, 9, []int{0, 1, 2, 3, 4, 5, 6, 7}, nil, 1},
		"another error":      {8, map[int]error{5: broken}, 9, nil, broken, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var attached, refused []int
			tries := 0
			numbers := func(from, to int) (all []int) {
				for i := from; i < to; i++ {
					all = append(all, i)
				}
				return all
			}
			h := halving{
				attach: func(from, to int) error {
					tries++
					for _, i := range numbers(from, to) {
						if err := test.errs[i]; err != nil {
							return fmt.Errorf("attach: %w", err)
						}
					}
					attached = append(attached, numbers(from, to)...)
					return nil
				},
				refuse: func(from, to int) { refused = append(refused, numbers(from, to)...) },
				left:   test.left,
			}
			err := h.run(0, test.n)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if !slices.Equal(refused, test.refuse) || tries != test.tries {
				t.Errorf("refused %v, want %v; %d tries, want %d", refused, test.refuse, tries, test.tries)
			}
			if err == nil && len(attached)+len(refused) != test.n {
				t.Errorf("%v attached, %v refused of %d", attached, refused, test.n)
			}
		})
	}
}
