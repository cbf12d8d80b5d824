// Command gen writes orders.csv, the same each time.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/perdure/perdure/examples/orders"
)

const (
	count   = 3000
	firstID = 1000
)

func main() {
	path := flag.String("o", "orders.csv", "file to write")
	flag.Parse()
	if err := run(*path); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	var text bytes.Buffer
	if err := generate(&text); err != nil {
		return err
	}
	return os.WriteFile(path, text.Bytes(), 0o644)
}

func generate(w io.Writer) error {
	random := rand.New(rand.NewPCG(20, 26))
	list := make([]orders.Order, count)
	for i := range list {
		list[i] = order(random, firstID+i)
		if err := list[i].Validate(); err != nil {
			return fmt.Errorf("%s: %w", list[i].ID, err)
		}
	}
	return orders.WriteCSV(w, list)
}

func order(random *rand.Rand, n int) orders.Order {
	c := countries[random.IntN(len(countries))]
	name, email := c.person(random)
	o := orders.Order{ID: fmt.Sprintf("order:%d", n), Customer: name, Email: email, Country: c.code, Currency: c.currency}
	for _, i := range random.Perm(len(products))[:itemCount(random)] {
		p := products[i]
		item := orders.Item{SKU: p.sku, Name: p.name, Quantity: quantity(random), PriceCents: p.cents * c.rate / 100}
		o.Items = append(o.Items, item)
		o.TotalCents += item.Quantity * item.PriceCents
	}
	return o
}

// itemCount and quantity are small most of the time.
func itemCount(random *rand.Rand) int { return []int{1, 1, 1, 2, 2, 3}[random.IntN(6)] }

func quantity(random *rand.Rand) int {
	if random.IntN(40) == 0 {
		return 10 + random.IntN(90)
	}
	return []int{1, 1, 1, 1, 2, 2, 3, 4}[random.IntN(8)]
}

// person returns a name as it is written in the country, and a mail address.
func (c country) person(random *rand.Rand) (name, email string) {
	given, givenASCII := spellings(pick(random, c.given))
	family, familyASCII := spellings(pick(random, c.family))
	email = fmt.Sprintf("%s.%s%s@%s", givenASCII, familyASCII, number(random), pick(random, domains))
	switch r := random.IntN(40); {
	case c.familyFirst:
		return family + " " + given, email
	case r == 0:
		return fmt.Sprintf("%s, %s", family, given), email
	case r == 1:
		return fmt.Sprintf("%s \"%s\" %s", given, pick(random, nicknames), family), email
	case r == 2:
		return fmt.Sprintf("%s & Partner, %s", family, c.company), email
	default:
		return given + " " + family, email
	}
}

func number(random *rand.Rand) string {
	if random.IntN(3) > 0 {
		return ""
	}
	return fmt.Sprint(1 + random.IntN(98))
}

// spellings splits "Zoë/zoe"; a name without a slash is its own in small letters.
func spellings(entry string) (name, ascii string) {
	name, ascii, ok := strings.Cut(entry, "/")
	if !ok {
		ascii = strings.ToLower(name)
	}
	return name, strings.NewReplacer(" ", "", "'", "").Replace(ascii)
}

func pick(random *rand.Rand, list []string) string { return list[random.IntN(len(list))] }
