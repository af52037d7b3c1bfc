package expr

import (
	"fmt"

	"fgtrace/btfx"
)

// typeCalled finds what a name of a type stands for: its first kind that there is.
// A kernel has types of one name that differ, each in a file of its own.
func (c *checker) typeCalled(n TypeName, kinds ...btfx.Kind) (t Type, found bool, err error) {
	for _, kind := range kinds {
		ids := c.scope.Types.FindTypes(kind, n.Name)
		if len(ids) == 0 {
			continue
		}
		if t, err = c.typeOf(ids[0]); err != nil {
			return t, true, err
		}
		for _, id := range ids[1:] {
			if other, err := c.typeOf(id); err != nil || !c.alike(t, other) {
				return t, true, fmt.Errorf("%d types are called %s, and differ: nothing tells which is meant", len(ids), TypeName{Tag: n.Tag, Name: n.Name})
			}
		}
		return t, true, nil
	}
	return Type{}, false, nil
}

// alike tells whether expressions find the same in two types.
func (c *checker) alike(a, b Type) bool {
	if a.Kind != b.Kind || a.Size != b.Size || a.Signed != b.Signed || a.Len != b.Len {
		return false
	}
	if a.Kind != Struct {
		return true
	}
	// What is only declared has no members.
	x, _ := c.scope.Types.Fields(a.ID)
	y, _ := c.scope.Types.Fields(b.ID)
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i].Name != y[i].Name || x[i].Offset != y[i].Offset || x[i].Bits != y[i].Bits {
			return false
		}
	}
	return true
}

// enumerator finds the value that a name stands for.
func (c *checker) enumerator(n *Name) (*Tree, bool, error) {
	all := c.scope.Types.Enumerators(n.Name)
	if len(all) == 0 {
		return nil, false, nil
	}
	e := all[0]
	for _, other := range all[1:] {
		if other.Value != e.Value {
			types := c.scope.Types
			return nil, false, c.errorf(n.At, "%s is %d in one enum (%s), and %d in another (%s): write the number",
				n.Name, int64(e.Value), types.TypeName(e.Enum), int64(other.Value), types.TypeName(other.Enum))
		}
	}
	// It is an int, if that has its value.
	t := Type{Kind: Int, Size: 8, Signed: e.Signed, name: "long"}
	switch value := e.Value; {
	case int64(value) == int64(int32(value)) && (e.Signed || value < 1<<31):
		t = intType
	case !e.Signed && value < 1<<32:
		t = uintType
	case !e.Signed:
		t = ulongType
	}
	return constant(e.Value, t), true, nil
}
