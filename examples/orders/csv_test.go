package orders

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/perdure/perdure/jobs"
)

func TestSample(t *testing.T) {
	list, err := Sample()
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, o := range list {
		ids[o.ID] = true
	}
	if len(list) != 3000 || len(ids) != 3000 {
		t.Errorf("%d orders, %d ids", len(list), len(ids))
	}
}

func TestBadLines(t *testing.T) {
	header := strings.Join(columns, ",") + "\n"
	good := `order:1,"Núñez, Ana",a@example.com,ES,EUR,300,A-1,Lamp,3,100,,,,,,,,` + "\n"
	for name, c := range map[string]struct{ text, want string }{
		"nothing":      {"", "header"},
		"other header": {strings.Replace(header, "email", "mail", 1), `line 1, column 3: header "mail"`},
		"no number":    {header + good + strings.Replace(good, ",3,", ",three,", 1), `line 3, column quantity_1: quantity_1 "three"`},
		"wrong sum":    {header + strings.Replace(good, "300", "301", 1), "line 2, column total_cents: total_cents 301"},
		"quantity":     {header + good + strings.Replace(good, ",3,", ",0,", 1), "line 3, column quantity_1: items[0].quantity 0"},
		"bad id":       {header + strings.Replace(good, "order:1", "1", 1), `line 2, column id: id "1"`},
		"no items":     {header + "order:1,Ana,a@example.com,ES,EUR,0" + strings.Repeat(",", 12) + "\n", "line 2, column sku_1: items 0"},
		"too short":    {header + "order:1,Ana\n", `line 2: 2 columns from "order:1" on`},
		"bare quote":   {header + "order:1,A\"na\n", "line 2, column"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadCSV(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func TestInvalidOrders(t *testing.T) {
	for field, change := range map[string]func(*Order){
		"id":                   func(o *Order) { o.ID = "1042" },
		"customer":             func(o *Order) { o.Customer = "a\nb" },
		"email":                func(o *Order) { o.Email = "Ana <a@example.com>" },
		"country":              func(o *Order) { o.Country = "es" },
		"currency":             func(o *Order) { o.Currency = "EURO" },
		"items":                func(o *Order) { o.Items = nil },
		"items[0].sku":         func(o *Order) { o.Items[0].SKU = "a b" },
		"items[0].name":        func(o *Order) { o.Items[0].Name = "\xff" },
		"items[0].quantity":    func(o *Order) { o.Items[0].Quantity = 1001 },
		"items[0].price_cents": func(o *Order) { o.Items[0].PriceCents = -1 },
		"total_cents":          func(o *Order) { o.TotalCents++ },
	} {
		o := sampleOrder(t)
		change(&o)
		var bad *jobs.InvalidError
		if err := o.Validate(); !errors.As(err, &bad) || bad.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func FuzzReadCSV(f *testing.F) {
	header := strings.Join(columns, ",") + "\n"
	f.Add([]byte(header))
	f.Add(sample[:2000])
	f.Add([]byte(header + `order:1,"Núñez, ""Ana""",a@example.com,ES,EUR,300,,,,,A-1,Lamp,3,100,,,,` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ReadCSV(bytes.NewReader(text))
		if err != nil {
			return
		}
		var written bytes.Buffer
		if err := WriteCSV(&written, list); err != nil {
			t.Fatal(err)
		}
		again, err := ReadCSV(&written)
		if err != nil || !reflect.DeepEqual(again, list) {
			t.Fatalf("written and read again: %v, %v", again, err)
		}
	})
}
