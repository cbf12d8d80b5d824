package orders

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure/jobs"
)

// Services is where the three services are, and what the handler calls them with.
type Services struct {
	Payments  string // base addresses
	Warehouse string
	Mail      string
	HTTP      *http.Client // default: a client that opens a connection for each call
	Prefix    string       // of their names as dependencies; empty: none, see [Services.DependencyName]
}

// defaultHTTP keeps no connections: on one that is used again, net/http repeats a
// request with an Idempotency-Key by itself, and here a failed call is to be seen.
var defaultHTTP = &http.Client{
	Timeout:   30 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment},
}

// ServicesFromEnv reads the addresses from ORDERS_PAYMENTS_URL,
// ORDERS_WAREHOUSE_URL and ORDERS_MAIL_URL; without them they are
// http://127.0.0.1:8101 to 8103. ORDERS_PREFIX is the prefix.
func ServicesFromEnv() Services {
	return Services{
		Payments:  cmp.Or(os.Getenv("ORDERS_PAYMENTS_URL"), "http://127.0.0.1:8101"),
		Warehouse: cmp.Or(os.Getenv("ORDERS_WAREHOUSE_URL"), "http://127.0.0.1:8102"),
		Mail:      cmp.Or(os.Getenv("ORDERS_MAIL_URL"), "http://127.0.0.1:8103"),
		Prefix:    os.Getenv("ORDERS_PREFIX"),
	}
}

func (s Services) charge(ctx context.Context, o Order) (string, error) {
	return s.post(ctx, s.Payments, "/charge", o)
}

func (s Services) reserve(ctx context.Context, o Order) (string, error) {
	return s.post(ctx, s.Warehouse, "/reserve", o)
}

func (s Services) label(ctx context.Context, o Order) (string, error) {
	return s.post(ctx, s.Warehouse, "/label", o)
}

func (s Services) send(ctx context.Context, o Order) (string, error) {
	return s.post(ctx, s.Mail, "/send", o)
}

// post asks a service to do something for an order and returns the receipt's ID.
// The idempotency key is that of the step that ctx belongs to, and of the order: a
// step may be about many.
func (s Services) post(ctx context.Context, base, path string, o Order) (string, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", o.ID, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(base, "/")+path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", jobs.IdempotencyKey(ctx)+"/"+o.ID)
	request.Header.Set("User-Agent", "orders/"+strconv.Itoa(os.Getpid()))
	reply, err := exchange(s.client(), request)
	if err != nil {
		return "", err
	}
	return receipt(reply)
}

func (s Services) client() *http.Client { return cmp.Or(s.HTTP, defaultHTTP) }

// exchange sends a request and returns the body of a good reply, within bounds.
// The error of another reply carries its status, see [jobs.CheckResponse].
func exchange(client *http.Client, request *http.Request) ([]byte, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if refused := jobs.CheckResponse(response); refused != nil {
		return nil, explain(refused, body)
	}
	if err != nil {
		return nil, fmt.Errorf("read reply of %s: %w", request.URL.Path, err)
	}
	return body, nil
}

// explain adds the service's own words to the error, if it gave any.
func explain(err error, body []byte) error {
	var reply struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &reply) != nil || reply.Error == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, reply.Error)
}

// receipt reads a good reply. One that is not a receipt is the service's mistake,
// not the order's: worth another try.
func receipt(reply []byte) (string, error) {
	var r struct {
		ID string `json:"id"`
	}
	err := json.Unmarshal(reply, &r)
	if err == nil && r.ID == "" {
		err = errors.New("it has no id")
	}
	if err != nil {
		return "", jobs.WithClass(jobs.ClassTransient, fmt.Errorf("decode receipt: %w", err))
	}
	return r.ID, nil
}
