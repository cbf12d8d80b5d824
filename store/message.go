package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// message is asynq's TaskMessage (internal/proto/asynq.proto of v0.26.0; the
// numbers have never changed since v0.18). Fields that this version does not
// know are kept as they came.
type message struct {
	Type         string
	Payload      []byte
	ID           string
	Queue        string
	Retry        int64
	Retried      int64
	ErrorMsg     string
	Timeout      int64 // seconds
	Deadline     int64 // unix seconds
	UniqueKey    string
	LastFailedAt int64 // unix seconds
	Retention    int64 // seconds
	CompletedAt  int64 // unix seconds
	GroupKey     string
	Headers      map[string]string

	unknown []byte
}

// encode returns the message as asynq's own encoder would write it.
func (m *message) encode() []byte {
	b := make([]byte, 0, len(m.Payload)+256)
	b = appendText(b, 1, m.Type)
	b = appendText(b, 2, string(m.Payload))
	b = appendText(b, 3, m.ID)
	b = appendText(b, 4, m.Queue)
	b = appendNumber(b, 5, m.Retry)
	b = appendNumber(b, 6, m.Retried)
	b = appendText(b, 7, m.ErrorMsg)
	b = appendNumber(b, 8, m.Timeout)
	b = appendNumber(b, 9, m.Deadline)
	b = appendText(b, 10, m.UniqueKey)
	b = appendNumber(b, 11, m.LastFailedAt)
	b = appendNumber(b, 12, m.Retention)
	b = appendNumber(b, 13, m.CompletedAt)
	b = appendText(b, 14, m.GroupKey)
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		entry := appendText(nil, 1, name)
		entry = appendText(entry, 2, m.Headers[name])
		b = protowire.AppendTag(b, 15, protowire.BytesType)
		b = protowire.AppendBytes(b, entry)
	}
	return append(b, m.unknown...)
}

func appendText(b []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), text)
}

func appendNumber(b []byte, field protowire.Number, n int64) []byte {
	if n == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(n))
}

// readMessage reads the message that is stored for a key. It must name that key:
// one of another job would be run under a name that is not its own.
func readMessage(key string, data []byte) (*message, error) {
	m, err := decodeMessage(data)
	if err != nil {
		return nil, err
	}
	if m.ID != key {
		return nil, errors.New("decode task message: it names another job")
	}
	return m, nil
}

// decodeMessage reads a message.
func decodeMessage(data []byte) (*message, error) {
	m := &message{}
	for rest := data; len(rest) > 0; {
		field, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return nil, fmt.Errorf("decode task message: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(field, kind, rest[n:])
		if size < 0 {
			return nil, fmt.Errorf("decode task message field %d: %w", field, protowire.ParseError(size))
		}
		if err := m.set(field, kind, rest[:n+size], rest[n:n+size]); err != nil {
			return nil, err
		}
		rest = rest[n+size:]
	}
	return m, nil
}

// set stores one field; whole is the field with its tag, value without it.
func (m *message) set(field protowire.Number, kind protowire.Type, whole, value []byte) error {
	if text := m.text(field); text != nil && kind == protowire.BytesType {
		data, _ := protowire.ConsumeBytes(value)
		*text = string(data)
		return nil
	}
	if number := m.number(field); number != nil && kind == protowire.VarintType {
		n, _ := protowire.ConsumeVarint(value)
		*number = int64(n)
		return nil
	}
	switch {
	case field == 2 && kind == protowire.BytesType:
		data, _ := protowire.ConsumeBytes(value)
		m.Payload = slices.Clone(data)
	case field == 15 && kind == protowire.BytesType:
		data, _ := protowire.ConsumeBytes(value)
		return m.addHeader(data)
	case field >= 1 && field <= 15:
		return fmt.Errorf("decode task message field %d: wrong wire type %d", field, kind)
	default:
		m.unknown = append(m.unknown, whole...)
	}
	return nil
}

func (m *message) text(field protowire.Number) *string {
	switch field {
	case 1:
		return &m.Type
	case 3:
		return &m.ID
	case 4:
		return &m.Queue
	case 7:
		return &m.ErrorMsg
	case 10:
		return &m.UniqueKey
	case 14:
		return &m.GroupKey
	}
	return nil
}

func (m *message) number(field protowire.Number) *int64 {
	switch field {
	case 5:
		return &m.Retry
	case 6:
		return &m.Retried
	case 8:
		return &m.Timeout
	case 9:
		return &m.Deadline
	case 11:
		return &m.LastFailedAt
	case 12:
		return &m.Retention
	case 13:
		return &m.CompletedAt
	}
	return nil
}

func (m *message) addHeader(entry []byte) error {
	var pair [2]string
	for len(entry) > 0 {
		field, kind, n := protowire.ConsumeTag(entry)
		if n < 0 || kind != protowire.BytesType || field < 1 || field > 2 {
			return fmt.Errorf("decode task message header: bad entry")
		}
		data, size := protowire.ConsumeBytes(entry[n:])
		if size < 0 {
			return fmt.Errorf("decode task message header: %w", protowire.ParseError(size))
		}
		pair[field-1] = string(data)
		entry = entry[n+size:]
	}
	if m.Headers == nil {
		m.Headers = map[string]string{}
	}
	m.Headers[pair[0]] = pair[1]
	return nil
}
