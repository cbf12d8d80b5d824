package store

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"
)

func drawHeaders(t *rapid.T) map[string]string {
	return rapid.MapOfN(rapid.String(), rapid.String(), 0, 5).Draw(t, "headers")
}

// TestMessageAgainstAsynq: what asynq's client writes, we read as its Inspector
// does; what we write, its Inspector reads.
func TestMessageAgainstAsynq(t *testing.T) {
	t.Parallel()
	f := open(t)
	client, inspector := asynq.NewClientFromRedisClient(f.rdb), f.inspector()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		id := fmt.Sprint("k", n)
		payload := rapid.SliceOf(rapid.Byte()).Draw(t, "payload")
		kind := rapid.StringMatching(`[a-z]{1,9}`).Draw(t, "type") + rapid.String().Draw(t, "suffix")
		task := asynq.NewTaskWithHeaders(kind, payload, drawHeaders(t))
		options := []asynq.Option{
			asynq.TaskID(id), asynq.Queue("q"), asynq.MaxRetry(rapid.IntRange(0, 1<<30).Draw(t, "retry")),
			asynq.Timeout(time.Duration(rapid.IntRange(0, 1e6).Draw(t, "timeout")) * time.Second),
			asynq.Retention(time.Duration(rapid.IntRange(0, 1e6).Draw(t, "retention")) * time.Second),
		}
		if rapid.Bool().Draw(t, "bounded") {
			options = append(options, asynq.Deadline(time.Unix(rapid.Int64Range(1, 1<<33).Draw(t, "deadline"), 0)))
		}
		if rapid.Bool().Draw(t, "unique") {
			options = append(options, asynq.Unique(time.Hour))
		}
		if _, err := client.Enqueue(task, options...); err != nil {
			t.Fatal(err)
		}
		check := func(m *message) {
			info, err := inspector.GetTaskInfo("q", id)
			if err != nil {
				t.Fatal(err)
			}
			seen := &message{
				Type: info.Type, Payload: info.Payload, ID: info.ID, Queue: info.Queue, Retry: int64(info.MaxRetry), Retried: int64(info.Retried),
				ErrorMsg: info.LastErr, Timeout: int64(info.Timeout / time.Second), Deadline: unixOrZero(info.Deadline), UniqueKey: m.UniqueKey,
				LastFailedAt: unixOrZero(info.LastFailedAt), Retention: int64(info.Retention / time.Second), CompletedAt: unixOrZero(info.CompletedAt),
				GroupKey: info.Group, Headers: info.Headers,
			}
			if !sameMessage(m, seen) {
				t.Fatalf("we read %+v\nasynq reads %+v", m, seen)
			}
		}
		m, err := decodeMessage([]byte(f.field(id, "msg")))
		if err != nil {
			t.Fatal(err)
		}
		check(m)
		m.Retried, m.ErrorMsg = int64(rapid.Int32Min(0).Draw(t, "retried")), rapid.String().Draw(t, "error")
		m.LastFailedAt, m.CompletedAt = rapid.Int64Range(0, 1<<33).Draw(t, "failed"), rapid.Int64Range(0, 1<<33).Draw(t, "completed")
		f.rdb.HSet(f.ctx, taskKey("q", id), "msg", m.encode())
		check(m)
	})
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func sameMessage(a, b *message) bool {
	x, y := *a, *b
	same := bytes.Equal(x.Payload, y.Payload) && maps.Equal(x.Headers, y.Headers) && bytes.Equal(x.unknown, y.unknown)
	x.Payload, y.Payload, x.Headers, y.Headers, x.unknown, y.unknown = nil, nil, nil, nil, nil, nil
	return same && reflect.DeepEqual(x, y)
}

// TestMessageKeepsUnknownFields: a later asynq's fields go through our scripts.
func TestMessageKeepsUnknownFields(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &message{Type: rapid.String().Draw(t, "type"), Payload: rapid.SliceOf(rapid.Byte()).Draw(t, "payload"), Retry: rapid.Int64().Draw(t, "retry"), Headers: drawHeaders(t)}
		var unknown []byte
		for range rapid.IntRange(1, 4).Draw(t, "fields") {
			field := protowire.Number(rapid.IntRange(16, 1<<20).Draw(t, "field"))
			if rapid.Bool().Draw(t, "number") {
				unknown = protowire.AppendVarint(protowire.AppendTag(unknown, field, protowire.VarintType), rapid.Uint64().Draw(t, "value"))
			} else {
				unknown = protowire.AppendString(protowire.AppendTag(unknown, field, protowire.BytesType), rapid.String().Draw(t, "text"))
			}
		}
		got, err := decodeMessage(append(bytes.Clone(unknown), m.encode()...))
		if err != nil {
			t.Fatal(err)
		}
		m.unknown = unknown
		if !sameMessage(got, m) {
			t.Fatalf("read %+v, want %+v", got, m)
		}
		again, err := decodeMessage(got.encode())
		if err != nil || !sameMessage(again, got) {
			t.Fatalf("read again %+v, want %+v, error %v", again, got, err)
		}
	})
}

func TestMessageOutOfShape(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		"cut":                   {0x0a, 5, 'x'},
		"no tag":                {0xff},
		"field 0":               {0x00, 0},
		"number as text":        {0x2a, 1, 'x'},
		"text as number":        {0x08, 1},
		"header as number":      {0x78, 1},
		"header with a number":  {0x7a, 2, 0x08, 1},
		"header, cut":           {0x7a, 2, 0x0a, 9},
		"header, a third field": {0x7a, 3, 0x1a, 1, 'x'},
		"end of a group":        {0x84, 1},
	} {
		if m, err := decodeMessage(data); err == nil {
			t.Errorf("%s: read %+v", name, m)
		}
	}
	if m, err := decodeMessage(nil); err != nil || !sameMessage(m, &message{}) {
		t.Errorf("nothing: %+v, %v", m, err)
	}
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{0x7a, 2, 0x0a, 9})
	f.Add((&message{Type: "a", Payload: []byte("b"), Retry: -1, Headers: map[string]string{"c": "d", "": ""}, unknown: []byte{0x88, 1, 1}}).encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeMessage(data)
		if err != nil {
			return
		}
		again, err := decodeMessage(m.encode())
		if err != nil || !sameMessage(m, again) {
			t.Fatalf("%x: %+v, then %+v, error %v", data, m, again, err)
		}
	})
}
