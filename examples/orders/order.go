package orders

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/perdure/perdure/jobs"
)

// Order is what a customer bought.
type Order struct {
	ID         string `json:"id"` // "order:1042"
	Customer   string `json:"customer"`
	Email      string `json:"email"`
	Country    string `json:"country"` // two letters
	Items      []Item `json:"items"`
	Currency   string `json:"currency"` // three letters
	TotalCents int    `json:"total_cents"`
}

// Item is one line of an order.
type Item struct {
	SKU        string `json:"sku"`
	Name       string `json:"name"`
	Quantity   int    `json:"quantity"`
	PriceCents int    `json:"price_cents"`
}

// Shipment is what fulfilling an order leads to.
type Shipment struct {
	Order       string `json:"order"`
	Payment     string `json:"payment"`
	Reservation string `json:"reservation"`
	Label       string `json:"label"`
	Mail        string `json:"mail"`
}

var (
	idForm       = regexp.MustCompile(`^order:[0-9]{1,9}$`)
	countryForm  = regexp.MustCompile(`^[A-Z]{2}$`)
	currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)
)

// Validate returns an error that names each member which is out of bounds.
func (o Order) Validate() error {
	var errs []error
	check := func(ok bool, field string, value any, bound string) {
		if !ok {
			errs = append(errs, &jobs.InvalidError{Field: field, Value: value, Bound: bound})
		}
	}
	check(idForm.MatchString(o.ID), "id", o.ID, `"order:" and a number`)
	check(o.Customer != "" && len(o.Customer) <= 200, "customer", o.Customer, "1 to 200 bytes")
	check(strings.Count(o.Email, "@") == 1 && len(o.Email) <= 200, "email", o.Email, "an address")
	check(countryForm.MatchString(o.Country), "country", o.Country, "two capital letters")
	check(currencyForm.MatchString(o.Currency), "currency", o.Currency, "three capital letters")
	check(len(o.Items) >= 1 && len(o.Items) <= 50, "items", len(o.Items), "from 1 to 50")
	total := 0
	for i, item := range o.Items {
		check(item.Quantity >= 1 && item.Quantity <= 1000, fmt.Sprintf("items[%d].quantity", i), item.Quantity, "from 1 to 1000")
		check(item.PriceCents >= 0 && item.PriceCents <= 100_000_00, fmt.Sprintf("items[%d].price_cents", i), item.PriceCents, "from 0 to 10000000")
		total += item.Quantity * item.PriceCents
	}
	check(o.TotalCents == total, "total_cents", o.TotalCents, fmt.Sprintf("the items' sum, %d", total))
	return errors.Join(errs...)
}
