// Command gen writes orders.csv: the same few thousand orders each time.
package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
)

var (
	given = strings.Fields("Ada Björn Chidi Deepa Émile Fatima Giulia Hiroshi Ines Jamal Katya Liam Mei Noor Oskar Priya Quentin Rosa Søren Tomás Uma Vikram Wanjiku Ximena Yusuf Zofia Αλέξης Олена 美咲 Siobhán")
	names = []string{"Okafor", "Lindqvist", "García", "Nakamura", "O'Brien", "Müller", "Rossi", "Dubois", "Kowalska", "Haddad", "Nguyễn", "Silva", "van der Berg", "Şahin", "Kim", "Ivanova", "Achieng", "Patel", "Smith, Jr.", "Jørgensen"}
	lands = []string{"DE EUR", "FR EUR", "IT EUR", "ES EUR", "PL PLN", "SE SEK", "DK DKK", "GB GBP", "US USD", "JP JPY", "IN INR", "BR BRL", "KE KES", "CA CAD", "AU AUD"}
	goods = []string{"KET-17;Kettle 1,7 l;3990", "MUG-03;Mug \"Harbour\";1290", "LMP-88;Desk lamp, brass;8900", "BOK-12;Notebook A5;990", "TEA-41;Sencha 100 g;1450", "PAN-26;Cast iron pan 26 cm;5490", "TOW-09;Linen towel;1890", "CHR-02;Folding chair;12900", "BLK-55;Wool blanket;9900", "KNF-20;Chef's knife 20 cm;7490", "PLT-01;Fern in a pot;2290", "CLK-10;Wall clock Ø 30;4590"}
)

func main() {
	if err := Write(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Write writes the orders.
func Write(w io.Writer) error {
	random := rand.New(rand.NewPCG(1042, 2026))
	out := csv.NewWriter(w)
	if err := out.Write([]string{"id", "customer", "email", "country", "currency", "items", "total_cents"}); err != nil {
		return err
	}
	for i := range 3000 {
		if err := out.Write(row(random, 1000+i)); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func row(random *rand.Rand, id int) []string {
	customer := given[random.IntN(len(given))] + " " + names[random.IntN(len(names))]
	country, currency, _ := strings.Cut(lands[random.IntN(len(lands))], " ")
	var items []string
	total := 0
	for _, pick := range random.Perm(len(goods))[:1+random.IntN(4)] {
		part := strings.Split(goods[pick], ";")
		quantity, price := 1+random.IntN(3), 0
		fmt.Sscan(part[2], &price)
		total += quantity * price
		items = append(items, fmt.Sprintf("%s*%d@%d %s", part[0], quantity, price, part[1]))
	}
	return []string{
		fmt.Sprintf("order:%d", id), customer, fmt.Sprintf("customer%d@example.com", id), country, currency,
		strings.Join(items, "|"), fmt.Sprint(total),
	}
}
