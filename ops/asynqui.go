package ops

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/jobs"
)

const (
	asynqRoot     = "/asynq"
	maxAsynqText  = 4 << 10 // bytes shown of a payload or a result
	maxAsynqPage  = 500     // tasks on one page
	maxAsynqPages = 1_000_000
)

// sharedRedis hands asynq a client that others close.
type sharedRedis struct{ client redis.UniversalClient }

func (s sharedRedis) MakeRedisClient() any { return s.client }

// inlineScript finds the scripts that asynq's page has in its own text.
var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// mountAsynq makes asynq's web UI, for looking only: what it would change would go
// past quarantine and decisions. Its policy allows the page's own scripts by their
// digests, and nothing of other origins: the fonts it asks for stay out.
func (s *service) mountAsynq(client redis.UniversalClient) error {
	ui := asynqmon.New(asynqmon.Options{
		RootPath: asynqRoot, RedisConnOpt: sharedRedis{client}, ReadOnly: true,
		PayloadFormatter: asynqmon.PayloadFormatterFunc(showBytes), ResultFormatter: asynqmon.ResultFormatterFunc(showBytes),
	})
	page := capture(ui, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: asynqRoot + "/"}, Header: http.Header{}})
	if page.status != http.StatusOK {
		return fmt.Errorf("asynq's web UI: its page answers %d", page.status)
	}
	scripts := "'self'"
	for _, found := range inlineScript.FindAllSubmatch(page.body.Bytes(), -1) {
		sum := sha256.Sum256(found[1])
		scripts += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	s.asynq = ui
	s.asynqCSP = "default-src 'none'; script-src " + scripts + "; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
		"connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
	return nil
}

// showBytes is what the UI shows of a payload or a result.
func showBytes(_ string, data []byte) string {
	if !utf8.Valid(data) {
		return fmt.Sprintf("%d bytes that are not text", len(data))
	}
	if len(data) <= maxAsynqText {
		return string(data)
	}
	return fmt.Sprintf("%s... (%d bytes in all)", strings.ToValidUTF8(string(data[:maxAsynqText]), ""), len(data))
}

func (s *service) showAsynq(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Path == asynqRoot+"/api/metrics" {
		return errNoRoute // it would ask a Prometheus that nobody named
	}
	values := r.URL.Query()
	for name, most := range map[string]int{"size": maxAsynqPage, "page": maxAsynqPages} {
		given := values.Get(name)
		if n, err := strconv.Atoi(given); given != "" && (err != nil || n < 1 || n > most) {
			return &jobs.InvalidError{Field: name, Value: given, Bound: fmt.Sprintf("a number from 1 to %d", most)}
		}
	}
	h := w.Header()
	h.Set("Content-Security-Policy", s.asynqCSP)
	switch {
	case strings.HasPrefix(r.URL.Path, asynqRoot+"/api/"):
		h.Set("Content-Type", "application/json; charset=utf-8")
	case strings.HasPrefix(r.URL.Path, asynqRoot+"/static/"):
		h.Set("Cache-Control", "private, max-age=3600")
	}
	if path.Ext(r.URL.Path) == ".svg" {
		w = &svgWriter{w}
	}
	s.asynq.ServeHTTP(w, r)
	return nil
}

// svgWriter names the type of images that asynq's UI takes for text; browsers
// would not show them.
type svgWriter struct{ http.ResponseWriter }

func (w *svgWriter) Write(data []byte) (int, error) {
	if kind := w.Header().Get("Content-Type"); strings.HasPrefix(kind, "text/xml") || strings.HasPrefix(kind, "text/plain") {
		w.Header().Set("Content-Type", "image/svg+xml")
	}
	return w.ResponseWriter.Write(data)
}
