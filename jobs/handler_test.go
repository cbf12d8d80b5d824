package jobs_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure/jobs"
)

func TestRun(t *testing.T) {
	t.Parallel()
	kind := jobs.Define[int, string]("k", jobs.MaxOutput(5))
	tests := []struct {
		name    string
		payload string
		fn      func(context.Context, int) (string, error)
		want    string
		class   jobs.Class // of the error; empty: none
	}{
		{"result", "1", func(context.Context, int) (string, error) { return "abc", nil }, `"abc"`, ""},
		{"error", "1", func(context.Context, int) (string, error) { return "abc", io.EOF }, "", jobs.ClassUnavailable},
		{"panic", "1", func(context.Context, int) (string, error) { panic("x") }, "", jobs.ClassPanic},
		{"result too large", "1", func(context.Context, int) (string, error) { return "abcd", nil }, "", jobs.ClassInvalid},
		{"no function", "1", nil, "", jobs.ClassPanic},
		{"payload of another type", `"x"`, nil, "", jobs.ClassInvalid},
		{"no payload", "", nil, "", jobs.ClassInvalid},
		{"text after the payload", "1 2", nil, "", jobs.ClassInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := kind.Do(test.fn).Run(t.Context(), []byte(test.payload))
			if string(got) != test.want || (err != nil) != (test.class != "") {
				t.Errorf("got %s, %v", got, err)
			}
			if err != nil && jobs.Classify(err).Class != test.class {
				t.Errorf("%v: %+v, want %s", err, jobs.Classify(err), test.class)
			}
		})
	}
	_, err := kind.Do(tests[3].fn).Run(t.Context(), []byte("1"))
	requireInvalid(t, err, "result")
	_, err = jobs.Define[int, chan int]("k").Do(func(context.Context, int) (chan int, error) { return make(chan int), nil }).Run(t.Context(), []byte("1"))
	if jobs.Classify(err).Class != jobs.ClassInvalid {
		t.Errorf("a result that cannot be encoded: %v", err)
	}
}

func TestMiddlewareOrder(t *testing.T) {
	t.Parallel()
	var trace []string
	named := func(name string) jobs.Middleware {
		return func(next jobs.Next) jobs.Next {
			return func(ctx context.Context) error {
				trace = append(trace, name)
				defer func() { trace = append(trace, "/"+name) }()
				return next(ctx)
			}
		}
	}
	handler := jobs.Define[int, int]("k").Do(func(context.Context, int) (int, error) {
		trace = append(trace, "handler")
		return 7, nil
	}, named("c"), named("d"))
	wrapped := handler.Use(named("a"), named("b"))
	result, err := wrapped.Run(t.Context(), []byte("1"))
	if want := []string{"a", "b", "c", "d", "handler", "/d", "/c", "/b", "/a"}; !slices.Equal(trace, want) {
		t.Errorf("got %v, want %v", trace, want)
	}
	if string(result) != "7" || err != nil {
		t.Errorf("got %s, %v", result, err)
	}
	trace = nil
	if _, err := handler.Run(t.Context(), []byte("1")); err != nil || len(trace) != 5 {
		t.Errorf("Use changed the handler it was called on: %v, %v", trace, err)
	}
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	type key struct{}
	boom := errors.New("boom")
	tests := []struct {
		name       string
		fail       error
		middleware func(next jobs.Next) jobs.Next
		want       string
		err        error
	}{
		{"changes the context", nil, func(next jobs.Next) jobs.Next {
			return func(ctx context.Context) error { return next(context.WithValue(ctx, key{}, 5)) }
		}, "5", nil},
		{"refuses", nil, func(jobs.Next) jobs.Next { return func(context.Context) error { return boom } }, "", boom},
		{"ends without the handler", nil, func(jobs.Next) jobs.Next { return func(context.Context) error { return nil } }, "", nil},
		{"sees the error", boom, func(next jobs.Next) jobs.Next {
			return func(ctx context.Context) error {
				if err := next(ctx); !errors.Is(err, boom) {
					return err
				}
				return io.EOF
			}
		}, "", io.EOF},
		{"fails after the handler", nil, func(next jobs.Next) jobs.Next {
			return func(ctx context.Context) error { return errors.Join(next(ctx), boom) }
		}, "", boom},
		{"swallows the error", boom, func(next jobs.Next) jobs.Next {
			return func(ctx context.Context) error { _ = next(ctx); return nil }
		}, "", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			handler := jobs.Define[int, int]("k").Do(func(ctx context.Context, _ int) (int, error) {
				n, _ := ctx.Value(key{}).(int)
				return n, test.fail
			}, test.middleware)
			got, err := handler.Run(t.Context(), []byte("1"))
			if string(got) != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, test.want, test.err)
			}
		})
	}
}

func TestPanicInMiddleware(t *testing.T) {
	t.Parallel()
	value := errors.New("boom")
	for name, middleware := range map[string]jobs.Middleware{
		"before":   func(jobs.Next) jobs.Next { return func(context.Context) error { panic(value) } },
		"after":    func(next jobs.Next) jobs.Next { return func(ctx context.Context) error { _ = next(ctx); panic(value) } },
		"building": func(jobs.Next) jobs.Next { panic(value) },
	} {
		result, err := jobs.Define[int, int]("k").Do(func(context.Context, int) (int, error) { return 7, nil }, middleware).Run(t.Context(), []byte("1"))
		var p *jobs.PanicError
		if !errors.As(err, &p) || !errors.Is(err, value) || p.Stack == "" || result != nil {
			t.Errorf("%s: got %s, %v", name, result, err)
		}
	}
}

type refuses struct{}

func (refuses) Validate() error { panic("boom") }

func TestCheck(t *testing.T) {
	t.Parallel()
	ran := false
	handler := jobs.Define[validated, int]("k").Do(func(context.Context, validated) (int, error) { ran = true; return 1, nil })
	if err := handler.Check([]byte(`{"N":1}`)); err != nil {
		t.Error(err)
	}
	for _, payload := range []string{"", "{", `"x"`, `{"N":"x"}`, `{"N":-1}`, `{"N":1} 2`} {
		if err := handler.Check([]byte(payload)); !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%q: %v", payload, err)
		}
	}
	if ran {
		t.Error("the function ran")
	}
	err := jobs.Define[refuses, int]("k").Do(nil).Check([]byte("{}"))
	if !errors.Is(err, jobs.ErrInvalid) || jobs.Classify(err).Class != jobs.ClassInvalid {
		t.Errorf("a panic in Validate: %v", err)
	}
}

func TestNewHandler(t *testing.T) {
	t.Parallel()
	echo := func(_ context.Context, payload []byte) ([]byte, error) { return payload, nil }
	handler := jobs.NewHandler(jobs.Definition{Name: "k"}, echo, nil)
	if handler.Err() != nil || handler.Definition.Codec == nil || handler.Definition.MaxOutput != jobs.DefaultMaxOutput || handler.Definition.MaxPayload != jobs.DefaultMaxPayload {
		t.Errorf("got %+v, %v", handler.Definition, handler.Err())
	}
	if result, err := handler.Run(t.Context(), []byte("\x00")); string(result) != "\x00" || err != nil {
		t.Errorf("got %q, %v", result, err)
	}
	if err := handler.Check([]byte("\x00")); err != nil {
		t.Errorf("no check, yet %v", err)
	}
	requireInvalid(t, jobs.NewHandler(jobs.Definition{Name: "K"}, echo, nil).Err(), "kind")

	result, err := jobs.NewHandler(jobs.Definition{Name: "k", MaxOutput: 2}, echo, nil).Run(t.Context(), []byte("123"))
	requireInvalid(t, err, "result")
	if result != nil {
		t.Errorf("got %q", result)
	}
	boom := errors.New("boom")
	checked := jobs.NewHandler(jobs.Definition{Name: "k"}, nil, func([]byte) error { return boom })
	if err := checked.Check(nil); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if _, err := checked.Run(t.Context(), nil); jobs.Classify(err).Class != jobs.ClassPanic {
		t.Errorf("no function: %v", err)
	}
}

func TestPanicError(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value any
		text  string
		wraps error
	}{
		{"boom", "panic: boom", nil},
		{42, "panic: 42", nil},
		{io.EOF, "panic: EOF", io.EOF},
	} {
		err := error(&jobs.PanicError{Value: test.value})
		if err.Error() != test.text || !errors.Is(errors.Unwrap(err), test.wraps) {
			t.Errorf("%v: got %q around %v", test.value, err, errors.Unwrap(err))
		}
	}
	_, err := jobs.Define[int, int]("k").Do(func(_ context.Context, n int) (int, error) { return 1 / (n - 1), nil }).Run(t.Context(), []byte("1"))
	var p *jobs.PanicError
	if !errors.As(err, &p) || !strings.Contains(p.Error(), "divide by zero") || !strings.Contains(p.Stack, "TestPanicError") {
		t.Errorf("got %v", err)
	}
}
