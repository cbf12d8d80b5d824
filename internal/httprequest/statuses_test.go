package httprequest

import (
	"errors"
	"strings"
	"testing"

	"github.com/perdure/perdure/jobs"
)

func TestStatuses(t *testing.T) {
	for _, test := range []struct{ text, in, out string }{
		{"2xx", "200 204 299", "300 199 500"},
		{"200-204,409", "200 203 204 409", "205 408 410"},
		{" 201 , 3xx ", "201 300 399", "200 400"},
		{"200-599", "200 599", "199 600"},
		{"404-404", "404", "403 405"},
	} {
		set, err := parseStatuses(test.text)
		if err != nil {
			t.Errorf("%q: %v", test.text, err)
		}
		for status := range strings.FieldsSeq(test.in) {
			if n, _ := parseStatus(status); !set.has(n) {
				t.Errorf("%q lacks %s", test.text, status)
			}
		}
		for status := range strings.FieldsSeq(test.out) {
			if n, _ := parseStatus(status); set.has(n) {
				t.Errorf("%q has %s", test.text, status)
			}
		}
	}
}

func TestStatusesRefused(t *testing.T) {
	for _, text := range []string{
		"", ",", "2xx,", "1xx", "6xx", "0xx", "xx", "xxx", "2XX", "22xx", "199", "600", "20", "2000", "+20", "-200", "200-", "-",
		"204-200", "200-204-205", "200 204", "2xx-3xx", "２００", "abc", strings.Repeat("200,", 50) + "200",
	} {
		_, err := parseStatuses(text)
		var refused *jobs.InvalidError
		if !errors.As(err, &refused) || refused.Field != "success" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzStatuses(f *testing.F) {
	for _, text := range []string{"2xx", "200-204,409", "", ",", "9xx", "200-", "599-200", " 2xx ,3xx"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		set, err := parseStatuses(text)
		if err != nil {
			if !errors.Is(err, jobs.ErrInvalid) || set != nil {
				t.Fatalf("%q: %v %v", text, set, err)
			}
			return
		}
		if len(set) == 0 || len(set) != strings.Count(text, ",")+1 {
			t.Fatalf("%q: %v", text, set)
		}
		for _, s := range set {
			if s.from < lowestStatus || s.to > highestStatus || s.from > s.to || !set.has(s.from) || !set.has(s.to) {
				t.Fatalf("%q: %v", text, set)
			}
		}
	})
}
