package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestOnlyLateIsPlayedTwice: what came late is played once more, and what is broken is not.
func TestOnlyLateIsPlayedTwice(t *testing.T) {
	t.Parallel()
	s := set(t, self(t))
	slow, wrong := inTime(map[string]bool{"it comes in time": false}), must(map[string]bool{"nothing is lost": false})
	for _, c := range []struct {
		name   string
		broken []error // each time that it is played
		plays  int
		passed bool
	}{
		{"nothing", []error{nil}, 1, true},
		{"late once", []error{slow, nil}, 2, true},
		{"late in two ways", []error{errors.Join(slow, slow, nil), nil}, 2, true},
		{"late twice", []error{slow, slow}, 2, false},
		{"broken", []error{wrong}, 1, false},
		{"late and broken", []error{errors.Join(slow, wrong)}, 1, false},
		{"broken the second time", []error{slow, wrong}, 2, false},
		{"failed", []error{fmt.Errorf("look: %w", context.Canceled)}, 1, false},
	} {
		plays := 0
		result := s.play(t.Context(), scenario{c.name, "", func(context.Context, *stage) (string, string, error) {
			plays++
			return fmt.Sprint("play ", plays), "evidence", c.broken[plays-1]
		}})
		if result.Passed != c.passed || plays != c.plays {
			t.Errorf("%s: played %d times, passed: %v; %+v", c.name, plays, result.Passed, result)
		}
		if told := strings.Contains(result.Evidence, "played twice, the first time: play 1; broken: it comes in time"); told != (c.plays == 2) {
			t.Errorf("%s: the evidence is %q", c.name, result.Evidence)
		}
	}
}

// TestPlayedTwiceOnTheSameOrders: the second time nothing is seen of the first.
func TestPlayedTwiceOnTheSameOrders(t *testing.T) {
	t.Parallel()
	s := set(t, self(t))
	plays := 0
	result := s.play(t.Context(), scenario{"orders", "", withCrew(1, func(ctx context.Context, c *crew) (string, string, error) {
		plays++
		h, err := c.enqueue(ctx, c.orders[0])
		if err == nil {
			_, err = h.Wait(ctx)
		}
		if err != nil {
			return "", "", err
		}
		tally, err := c.tally(c.orders[0].ID)
		return "", "", errors.Join(err, tally.once(), inTime(map[string]bool{"it comes in time": plays == 2}))
	})})
	if !result.Passed || plays != 2 {
		t.Errorf("played %d times: %+v", plays, result)
	}
}
