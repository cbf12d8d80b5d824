package jobs_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/perdure/perdure/jobs"
)

// sealed stores everything encrypted with AES-GCM. Producer and worker share the
// keys.
type sealed struct {
	aead      cipher.AEAD
	digestKey []byte
}

// newSealed takes a key of 16, 24 or 32 bytes, and one for digests.
func newSealed(key, digestKey []byte) (*sealed, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &sealed{aead: aead, digestKey: digestKey}, err
}

// Encode prepends a random nonce, so the output differs each time.
func (s *sealed) Encode(v any) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, s.aead.NonceSize())
	rand.Read(nonce)
	return s.aead.Seal(nonce, nonce, plain, nil), nil
}

func (s *sealed) Decode(data []byte, v any) error {
	if len(data) < s.aead.NonceSize() {
		return errors.New("sealed data is too short")
	}
	plain, err := s.aead.Open(nil, data[:s.aead.NonceSize()], data[s.aead.NonceSize():], nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, v)
}

// Digest makes jobs.Digester of it: equal payloads are still known to be equal,
// and nobody without the key can test a guess.
func (s *sealed) Digest(kind string, v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, s.digestKey)
	mac.Write([]byte(jobs.Digest(kind, plain)))
	return hex.EncodeToString(mac.Sum(nil)), nil
}

func ExampleCodec() {
	codec, err := newSealed([]byte("0123456789abcdef0123456789abcdef"), []byte("another secret"))
	if err != nil {
		fmt.Println(err)
		return
	}
	kind := jobs.Define[string, string]("secret.note", jobs.WithCodec(codec))
	first, second := kind.New("note:1", "the launch code"), kind.New("note:1", "the launch code")
	var note string
	err = codec.Decode(first.Payload, &note)
	fmt.Println(note, err)
	fmt.Println("stored alike:", string(first.Payload) == string(second.Payload), "known to be the same:", first.Digest == second.Digest)
	// Output:
	// the launch code <nil>
	// stored alike: false known to be the same: true
}
