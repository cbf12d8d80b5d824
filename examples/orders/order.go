// Package orders is an example application: order fulfilment over three HTTP
// services that can be told to fail. README.md walks through it.
package orders

import (
	"fmt"
	"net/mail"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/perdure/perdure/jobs"
)

// Order is what a customer bought, and the payload of [Fulfil].
type Order struct {
	ID         string `json:"id"` // for example "order:1042"
	Customer   string `json:"customer"`
	Email      string `json:"email"`
	Country    string `json:"country"` // two letters
	Items      []Item `json:"items"`
	Currency   string `json:"currency"`    // three letters
	TotalCents int    `json:"total_cents"` // the sum of the items
}

// Item is one position of an order.
type Item struct {
	SKU        string `json:"sku"`
	Name       string `json:"name"`
	Quantity   int    `json:"quantity"`
	PriceCents int    `json:"price_cents"` // of one piece
}

// Shipment is what became of an order: the receipt of each service.
type Shipment struct {
	Order       string `json:"order"`
	Payment     string `json:"payment"`
	Reservation string `json:"reservation"`
	Label       string `json:"label"`
	Mail        string `json:"mail"`
}

// Bounds of an order.
const (
	maxItems      = 100
	maxQuantity   = 1000
	maxPriceCents = 100_000_000
	maxText       = 200 // bytes
)

var (
	idPattern       = regexp.MustCompile(`^order:[0-9]{1,18}$`)
	countryPattern  = regexp.MustCompile(`^[A-Z]{2}$`)
	currencyPattern = regexp.MustCompile(`^[A-Z]{3}$`)
	skuPattern      = regexp.MustCompile(`^[A-Z0-9][A-Z0-9-]{0,39}$`)
)

// Validate returns a *[jobs.InvalidError] for the first field that is out of
// bounds. perdure calls it before it accepts an order and before it runs one.
func (o Order) Validate() error {
	checks := []func() error{
		func() error { return matches("id", o.ID, idPattern, `like "order:1042"`) },
		func() error { return checkText("customer", o.Customer) },
		func() error { return checkEmail(o.Email) },
		func() error { return matches("country", o.Country, countryPattern, "two capital letters") },
		func() error { return matches("currency", o.Currency, currencyPattern, "three capital letters") },
		o.checkItems,
		o.checkTotal,
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (o Order) checkItems() error {
	if err := within("items", len(o.Items), 1, maxItems); err != nil {
		return err
	}
	for i, item := range o.Items {
		if err := item.check(fmt.Sprintf("items[%d].", i)); err != nil {
			return err
		}
	}
	return nil
}

func (o Order) checkTotal() error {
	if sum := o.sum(); o.TotalCents != sum {
		return invalid("total_cents", o.TotalCents, fmt.Sprintf("%d, the sum of the items", sum))
	}
	return nil
}

// sum cannot overflow within the bounds of items, quantities and prices.
func (o Order) sum() int {
	sum := 0
	for _, item := range o.Items {
		sum += item.Quantity * item.PriceCents
	}
	return sum
}

func (i Item) check(prefix string) error {
	if err := matches(prefix+"sku", i.SKU, skuPattern, "1 to 40 of A-Z, 0-9 and -"); err != nil {
		return err
	}
	if err := checkText(prefix+"name", i.Name); err != nil {
		return err
	}
	if err := within(prefix+"quantity", i.Quantity, 1, maxQuantity); err != nil {
		return err
	}
	return within(prefix+"price_cents", i.PriceCents, 0, maxPriceCents)
}

// checkText accepts what can be printed on one line of a label.
func checkText(field, text string) error {
	blank := strings.TrimSpace(text) == ""
	if blank || len(text) > maxText || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return invalid(field, text, fmt.Sprintf("1 to %d bytes of text on one line", maxText))
	}
	return nil
}

func checkEmail(email string) error {
	if err := checkText("email", email); err != nil {
		return err
	}
	if parsed, err := mail.ParseAddress(email); err != nil || parsed.Address != email {
		return invalid("email", email, "a mail address and nothing else")
	}
	return nil
}

func matches(field, value string, pattern *regexp.Regexp, bound string) error {
	if !pattern.MatchString(value) {
		return invalid(field, value, bound)
	}
	return nil
}

func within(field string, n, least, most int) error {
	if n < least || n > most {
		return invalid(field, n, fmt.Sprintf("from %d to %d", least, most))
	}
	return nil
}

func invalid(field string, value any, bound string) error {
	return &jobs.InvalidError{Field: field, Value: value, Bound: bound}
}
