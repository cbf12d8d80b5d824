package orders

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/perdure/perdure/jobs"
)

// Services says where the three services are.
type Services struct {
	Payments  string
	Warehouse string
	Mail      string
	HTTP      *http.Client // nil: http.DefaultClient
}

// ServicesFromEnv reads ORDERS_PAYMENTS_URL, ORDERS_WAREHOUSE_URL and
// ORDERS_MAIL_URL; by default they are on ports 8101 to 8103 of this machine.
func ServicesFromEnv() Services {
	return Services{
		Payments:  cmp.Or(os.Getenv("ORDERS_PAYMENTS_URL"), "http://127.0.0.1:8101"),
		Warehouse: cmp.Or(os.Getenv("ORDERS_WAREHOUSE_URL"), "http://127.0.0.1:8102"),
		Mail:      cmp.Or(os.Getenv("ORDERS_MAIL_URL"), "http://127.0.0.1:8103"),
	}
}

// post calls a service with the step's idempotency key and returns its receipt.
func (s Services) post(ctx context.Context, url string, o Order) (string, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", jobs.IdempotencyKey(ctx))
	req.GetBody = nil // a call whose outcome is unknown is decided by perdure, not sent again by net/http
	resp, err := cmp.Or(s.HTTP, http.DefaultClient).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if err := jobs.CheckResponse(resp); err != nil {
		return "", err
	}
	var receipt struct {
		ID string `json:"id"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&receipt); err != nil {
		return "", fmt.Errorf("read receipt: %w", err)
	}
	return receipt.ID, nil
}
