package httprequest

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	maxStatusesText = 200
	lowestStatus    = 200
	highestStatus   = 599
)

// statuses is a set of HTTP statuses.
type statuses []span

// span is the statuses from one to another, both included.
type span struct{ from, to int }

func (s statuses) has(status int) bool {
	for _, span := range s {
		if status >= span.from && status <= span.to {
			return true
		}
	}
	return false
}

// parseStatuses reads a list such as "2xx,404" or "200-204, 409".
func parseStatuses(text string) (statuses, error) {
	if len(text) > maxStatusesText {
		return nil, invalid("success", hidden(len(text)), fmt.Sprintf("of at most %d bytes", maxStatusesText))
	}
	var all statuses
	for item := range strings.SplitSeq(text, ",") {
		one, ok := parseSpan(strings.TrimSpace(item))
		if !ok {
			return nil, invalid("success", text, fmt.Sprintf(`statuses from %d to %d such as "2xx" or "200-204,409"`, lowestStatus, highestStatus))
		}
		all = append(all, one)
	}
	return all, nil
}

func parseSpan(text string) (span, bool) {
	if hundred, ok := strings.CutSuffix(text, "xx"); ok {
		text = hundred + "00-" + hundred + "99"
	}
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		last = first
	}
	from, ok1 := parseStatus(first)
	to, ok2 := parseStatus(last)
	return span{from, to}, ok1 && ok2 && from <= to
}

func parseStatus(text string) (int, bool) {
	if len(text) != 3 {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return int(n), err == nil && n >= lowestStatus && n <= highestStatus
}
