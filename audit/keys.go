package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/perdure/perdure/internal/delivery"
	"github.com/perdure/perdure/jobs"
)

// The settings that errors name.
const (
	settingKey       = "PERDURE_AUDIT_KEY"
	settingCheckKeys = "PERDURE_AUDIT_CHECK_KEYS"
)

// Bounds of a key, in bytes.
const (
	minKey = 32
	maxKey = 512
)

// Keys are what seals are made with and checked by. The zero value has none: nothing is
// sealed then, and no seal is checked. Printing it shows nothing.
type Keys struct {
	current string // the name of the one that seals; "": none does
	all     map[string][]byte
}

// String keeps keys out of logs.
func (Keys) String() string { return "audit keys" }

// GoString keeps keys out of logs.
func (Keys) GoString() string { return "audit keys" }

// ParseKeys reads the key that seals, "" for none, and further ones, separated by
// commas, that only check. A key is taken as it is written, 32 to 512 bytes of printable
// ASCII without spaces and commas: `openssl rand -hex 32` makes one. Errors never show
// a key.
func ParseKeys(current, further string) (Keys, error) {
	k := Keys{all: map[string][]byte{}}
	if current = strings.TrimSpace(current); current != "" {
		if err := checkKey(settingKey, "a key", current); err != nil {
			return Keys{}, err
		}
		k.current = k.add(current)
	}
	if strings.TrimSpace(further) == "" {
		return k, nil
	}
	for i, text := range strings.Split(further, ",") {
		text = strings.TrimSpace(text)
		if err := checkKey(settingCheckKeys, fmt.Sprintf("key %d", i+1), text); err != nil {
			return Keys{}, err
		}
		k.add(text)
	}
	return k, nil
}

func checkKey(setting, which, text string) error {
	bound := fmt.Sprintf("%d to %d bytes of printable ASCII without spaces and commas, such as openssl rand -hex 32 makes", minKey, maxKey)
	odd := strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' })
	if len(text) < minKey || len(text) > maxKey || odd {
		return &jobs.InvalidError{Field: setting, Value: fmt.Sprintf("%s of %d bytes", which, len(text)), Bound: bound}
	}
	return nil
}

// add keeps a key under its name, which tells keys apart and nothing about them.
func (k *Keys) add(text string) string {
	name := hex.EncodeToString(mac([]byte(text), []byte("perdure audit key")))[:16]
	k.all[name] = []byte(text)
	return name
}

func mac(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)
}

// Seals reports whether there is a key to seal with.
func (k Keys) Seals() bool { return k.current != "" }

// Checks reports whether there is a key to check seals by.
func (k Keys) Checks() bool { return len(k.all) > 0 }

func (k Keys) seal(s delivery.Seal) delivery.Seal {
	s.Key = k.current
	s.MAC = hex.EncodeToString(mac(k.all[k.current], s.Text()))
	return s
}

func (k Keys) anchor(a delivery.Anchor) delivery.Anchor {
	a.Key = k.current
	a.MAC = hex.EncodeToString(mac(k.all[k.current], a.Text()))
	return a
}

// wrong says why a MAC is not of one of the keys, "" when it is, or when there are no
// keys.
func (k Keys) wrong(name string, text []byte, given string) string {
	if !k.Checks() {
		return ""
	}
	key, known := k.all[name]
	if !known {
		return fmt.Sprintf("it is under key %q, which is not given: add that to %s, or it is forged", cut(name, 40), settingCheckKeys)
	}
	sum, err := hex.DecodeString(given)
	if err != nil || !hmac.Equal(sum, mac(key, text)) {
		return "its MAC is not of its key: it was edited or forged"
	}
	return ""
}

func cut(text string, most int) string {
	if len(text) > most {
		return text[:most]
	}
	return text
}
