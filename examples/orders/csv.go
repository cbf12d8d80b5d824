package orders

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

//go:embed orders.csv
var sample []byte

var columns = []string{"id", "customer", "email", "country", "currency", "items", "total_cents"}

// Sample returns the few thousand orders that come with the example.
func Sample() ([]Order, error) { return ReadCSV(bytes.NewReader(sample)) }

// ReadCSV reads orders: a heading and then id, customer, email, country, currency,
// items, total_cents. Items are "sku*quantity@cents name", separated by "|".
// Errors name line, column and value.
func ReadCSV(r io.Reader) ([]Order, error) {
	reader := csv.NewReader(r)
	reader.FieldsPerRecord = len(columns)
	heading, err := reader.Read()
	if err != nil {
		return nil, fmt.Errorf("read orders: heading: %w", err)
	}
	for i, name := range columns {
		if heading[i] != name {
			return nil, fmt.Errorf("read orders: line 1, column %d: heading is %q, want %q", i+1, heading[i], name)
		}
	}
	var orders []Order
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return orders, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read orders: %w", err)
		}
		line, _ := reader.FieldPos(0)
		order, err := parseOrder(record)
		if err != nil {
			return nil, fmt.Errorf("read orders: line %d: %w", line, err)
		}
		orders = append(orders, order)
	}
}

func parseOrder(record []string) (Order, error) {
	o := Order{ID: record[0], Customer: record[1], Email: record[2], Country: record[3], Currency: record[4]}
	for _, text := range strings.Split(record[5], "|") {
		item, err := parseItem(text)
		if err != nil {
			return o, fmt.Errorf("column items: %q: %w", text, err)
		}
		o.Items = append(o.Items, item)
	}
	var err error
	if o.TotalCents, err = strconv.Atoi(record[6]); err != nil {
		return o, fmt.Errorf("column total_cents: %q is no number", record[6])
	}
	return o, o.Validate()
}

func parseItem(text string) (Item, error) {
	var i Item
	numbers, name, ok := strings.Cut(text, " ")
	sku, rest, ok2 := strings.Cut(numbers, "*")
	quantity, price, ok3 := strings.Cut(rest, "@")
	if !ok || !ok2 || !ok3 || sku == "" {
		return i, errors.New("want sku*quantity@cents name")
	}
	i.SKU, i.Name = sku, name
	var err1, err2 error
	i.Quantity, err1 = strconv.Atoi(quantity)
	i.PriceCents, err2 = strconv.Atoi(price)
	return i, errors.Join(err1, err2)
}
