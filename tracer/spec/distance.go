package spec

// distance counts the slips that lead from one fixed string to others: a byte
// left out, added or replaced, or two neighbours swapped. It is Damerau and
// Levenshtein's distance, restricted: no byte is touched twice.
type distance struct {
	from string

	// The last three rows of the table that the distance is computed in: row i,
	// column j is the distance from from[:j] to to[:i].
	above2, above, row []int
}

func newDistance(from string) distance {
	cells := make([]int, 3*(len(from)+1))
	width := len(from) + 1
	return distance{
		from:   from,
		above2: cells[:width:width],
		above:  cells[width : 2*width : 2*width],
		row:    cells[2*width:],
	}
}

// between gives the distance to another string, or some number above limit when
// the distance is above it.
func (d *distance) between(to string, limit int) int {
	from := d.from
	far := limit + 1
	if len(to)-len(from) > limit || len(from)-len(to) > limit {
		return far
	}
	for j := range d.row {
		d.row[j] = min(j, far)
	}
	for i := 1; i <= len(to); i++ {
		d.above2, d.above, d.row = d.above, d.row, d.above2

		// Cells more than limit off the diagonal are above limit. Those next to
		// the band are read, and so are set.
		lo, hi := max(1, i-limit), min(len(from), i+limit)
		d.row[lo-1] = far
		if lo == 1 {
			d.row[0] = min(i, far)
		}
		least := d.row[lo-1]
		for j := lo; j <= hi; j++ {
			cost := 1
			if from[j-1] == to[i-1] {
				cost = 0
			}
			n := min(d.above[j-1]+cost, d.above[j]+1, d.row[j-1]+1)
			if i > 1 && j > 1 && from[j-1] == to[i-2] && from[j-2] == to[i-1] {
				n = min(n, d.above2[j-2]+1)
			}
			d.row[j] = n
			least = min(least, n)
		}
		if hi < len(from) {
			d.row[hi+1] = far
		}
		// A swap reaches back two rows, but its cost is that of the row above
		// at least: once a whole row is above limit, so is all below.
		if least > limit {
			return far
		}
	}
	return min(d.row[len(from)], far)
}
