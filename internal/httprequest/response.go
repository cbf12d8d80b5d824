package httprequest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"
)

// Bounds of a Response.
const (
	maxReceived = 64 << 10
	maxKept     = 1 << 10 // of one header
	maxNesting  = 64      // levels that others may put around a body
)

var keptHeaders = []string{"content-type", "location", "retry-after", "x-request-id"}

// Response is the result of http.request.
type Response struct {
	Status int `json:"status"`
	// Headers has content-type, location, retry-after and x-request-id, those
	// that were sent.
	Headers map[string]string `json:"headers,omitempty"`
	// Body is the body when it is JSON, else its text as a JSON string.
	Body json.RawMessage `json:"body,omitempty"`
	// Truncated says that only the first 64 KiB of the body were kept.
	Truncated  bool  `json:"truncated,omitempty"`
	DurationMS int64 `json:"duration_ms"`
}

func readResponse(reply *http.Response) (Response, error) {
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxReceived+1))
	if err != nil {
		return Response{}, err
	}
	r := Response{Status: reply.StatusCode, Headers: keep(reply.Header)}
	if len(body) > maxReceived {
		r.Truncated, body = true, body[:maxReceived]
	}
	if len(body) > 0 {
		r.Body = storedBody(body, r.Truncated)
	}
	return r, nil
}

func keep(header http.Header) map[string]string {
	kept := map[string]string{}
	for _, name := range keptHeaders {
		if value := strings.ToValidUTF8(header.Get(name), "\uFFFD"); value != "" && len(value) <= maxKept {
			kept[name] = value
		}
	}
	return kept
}

func storedBody(body []byte, truncated bool) json.RawMessage {
	if !truncated && isJSON(body) {
		return body
	}
	text, _ := json.Marshal(strings.ToValidUTF8(string(body), "\uFFFD")) // a string always encodes
	return text
}

// isJSON reports that body is JSON that stays readable inside of other JSON:
// decoders bound the nesting.
func isJSON(body []byte) bool {
	open, end := bytes.Repeat([]byte("["), maxNesting), bytes.Repeat([]byte("]"), maxNesting)
	return utf8.Valid(body) && json.Valid(body) && json.Valid(bytes.Join([][]byte{open, body, end}, nil))
}
