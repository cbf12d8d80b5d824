package jobs

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"strconv"
	"strings"
)

// Codec turns payloads, step outputs, progress and results into the bytes that
// Redis keeps. Implementations must be safe for concurrent use.
type Codec interface {
	// Encode returns the stored form of v.
	Encode(v any) ([]byte, error)
	// Decode fills the value that v points at. An error quarantines a job whose
	// payload it was.
	Decode(data []byte, v any) error
}

// Digester is implemented by a [Codec] whose output differs each time (an
// encrypting one), so that two enqueues of the same payload can still be told
// to be the same. The digest is kept in clear: use a keyed one for secrets.
type Digester interface {
	// Digest returns a short text equal for equal values.
	Digest(kind string, v any) (string, error)
}

// JSON is the default codec: encoding/json, unknown fields ignored.
var JSON Codec = jsonCodec{}

type jsonCodec struct{}

func (jsonCodec) Encode(v any) ([]byte, error) { return json.Marshal(v) }

func (jsonCodec) Decode(data []byte, v any) error { return json.Unmarshal(data, v) }

// Digest returns the hex SHA-256 of the kind and of the payload's canonical form:
// JSON with sorted members, no white space and numbers in one exact form;
// any other bytes as they are.
func Digest(kind string, payload []byte) string {
	h := sha256.New()
	io.WriteString(h, kind)
	h.Write([]byte{0})
	h.Write(canonical(payload))
	return hex.EncodeToString(h.Sum(nil))
}

// canonical returns payload in canonical JSON, or unchanged when it is not one
// JSON value.
func canonical(payload []byte) []byte {
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	var v any
	if decoder.Decode(&v) != nil {
		return payload
	}
	if _, err := decoder.Token(); err != io.EOF {
		return payload
	}
	out, err := json.Marshal(shortNumbers(v))
	if err != nil {
		return payload
	}
	return out
}

// shortNumbers rewrites numbers to one exact form, so that 1, 1.0 and 1e0 digest
// alike and no two values do.
func shortNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = shortNumbers(member)
		}
	case []any:
		for i, element := range v {
			v[i] = shortNumbers(element)
		}
	case json.Number:
		return shortNumber(v)
	}
	return v
}

// shortNumber moves all significant digits before the exponent: 1.50 is 15e-1.
// It works on the text, so it loses nothing; an exponent beyond 32 bits stays as
// it is.
func shortNumber(n json.Number) json.Number {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(string(n)), "e")
	power, err := strconv.ParseInt(cmp.Or(exponent, "0"), 10, 32)
	if err != nil {
		return n
	}
	digits, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	digits = strings.TrimLeft(whole+fraction, "0")
	short := strings.TrimRight(digits, "0")
	if short == "" {
		return "0"
	}
	if power += int64(len(digits) - len(short) - len(fraction)); power != 0 {
		short += "e" + strconv.FormatInt(power, 10)
	}
	if negative {
		short = "-" + short
	}
	return json.Number(short)
}
