package matrix

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// recipesFile is where a guest has docs/recipes.md.
const recipesFile = "/docs/recipes.md"

var shownEvents = regexp.MustCompile(`(?m)^trace: ([1-9]\d*) events, 0 lost`)

// TestGuestRecipes runs each command of docs/recipes.md as it stands there: it shows calls.
func TestGuestRecipes(t *testing.T) {
	inGuest(t)
	text, err := os.ReadFile(recipesFile)
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "trace ") {
			continue
		}
		if number++; !inShare(t, number) {
			continue
		}
		t.Run(strings.TrimSpace(line), func(t *testing.T) {
			res := startCommand(t, guestCommand("sh", "-c", line)).wait()
			if res.Status != 0 || !shownEvents.MatchString(res.Stderr) {
				t.Errorf("status %d\n%s\n%s", res.Status, res.Stdout, res.Stderr)
			}
		})
	}
	const least = 15
	if number < least {
		t.Errorf("%d recipes, and there were %d", number, least)
	}
}
