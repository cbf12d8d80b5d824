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

	"github.com/perdure/perdure/jobs"
)

//go:generate go run ./gen

//go:embed orders.csv
var sample []byte

// A line of the file is one order with at most csvItems items, each in
// itemColumns columns after the fixed ones.
const (
	csvItems     = 3
	fixedColumns = 6
	itemColumns  = 4
)

var columns = csvColumns()

func csvColumns() []string {
	names := []string{"id", "customer", "email", "country", "currency", "total_cents"}
	for i := 1; i <= csvItems; i++ {
		for _, name := range []string{"sku", "name", "quantity", "price_cents"} {
			names = append(names, fmt.Sprintf("%s_%d", name, i))
		}
	}
	return names
}

// Sample returns the 3000 orders of orders.csv.
func Sample() ([]Order, error) {
	list, err := ReadCSV(bytes.NewReader(sample))
	if err != nil {
		return nil, fmt.Errorf("orders.csv: %w", err)
	}
	return list, nil
}

// ReadCSV reads orders as [WriteCSV] writes them: a header, then a line for each
// order. It stops at the first bad one and names line, column and value.
func ReadCSV(r io.Reader) ([]Order, error) {
	reader := csv.NewReader(r)
	reader.ReuseRecord = true
	if err := readHeader(reader); err != nil {
		return nil, err
	}
	reader.FieldsPerRecord = len(columns)
	var list []Order
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if errors.Is(err, csv.ErrFieldCount) {
			line, _ := reader.FieldPos(0)
			return nil, fmt.Errorf("line %d: %d columns from %q on: must be %d", line, len(record), record[0], len(columns))
		}
		if err != nil {
			return nil, fmt.Errorf("read orders: %w", err)
		}
		o, err := (&row{reader: reader, record: record}).order()
		if err != nil {
			return nil, err
		}
		list = append(list, o)
	}
}

func readHeader(reader *csv.Reader) error {
	header, err := reader.Read()
	if err != nil {
		return fmt.Errorf("read header of orders: %w", err)
	}
	if len(header) != len(columns) {
		return fmt.Errorf("line 1: %d columns: must be %d, %s", len(header), len(columns), strings.Join(columns, ","))
	}
	header[0] = strings.TrimPrefix(header[0], "\ufeff") // a spreadsheet's byte order mark
	for i, name := range header {
		if name != columns[i] {
			return fmt.Errorf("line 1, column %d: %w", i+1, invalid("header", name, strconv.Quote(columns[i])))
		}
	}
	return nil
}

// row is one record and where its fields are.
type row struct {
	reader *csv.Reader
	record []string
}

func (r *row) order() (Order, error) {
	o := Order{ID: r.record[0], Customer: r.record[1], Email: r.record[2], Country: r.record[3], Currency: r.record[4]}
	var err error
	if o.TotalCents, err = r.number(5); err != nil {
		return Order{}, err
	}
	var groups []int // which group of columns each item came from
	for g := range csvItems {
		first := fixedColumns + g*itemColumns
		if strings.Join(r.record[first:first+itemColumns], "") == "" {
			continue
		}
		item, err := r.item(first)
		if err != nil {
			return Order{}, err
		}
		o.Items, groups = append(o.Items, item), append(groups, g)
	}
	if err := o.Validate(); err != nil {
		return Order{}, r.at(columnOf(err, groups), err)
	}
	return o, nil
}

func (r *row) item(first int) (Item, error) {
	item := Item{SKU: r.record[first], Name: r.record[first+1]}
	var err error
	if item.Quantity, err = r.number(first + 2); err != nil {
		return Item{}, err
	}
	item.PriceCents, err = r.number(first + 3)
	return item, err
}

func (r *row) number(column int) (int, error) {
	n, err := strconv.Atoi(r.record[column])
	if err != nil {
		return 0, r.at(column, invalid(columns[column], r.record[column], "a whole number"))
	}
	return n, nil
}

func (r *row) at(column int, err error) error {
	line, _ := r.reader.FieldPos(column)
	return fmt.Errorf("line %d, column %s: %w", line, columns[column], err)
}

// columnOf finds the column that a field of [Order.Validate]'s error came from.
func columnOf(err error, groups []int) int {
	var bad *jobs.InvalidError
	if !errors.As(err, &bad) {
		return 0
	}
	name := bad.Field
	var i int
	var member string
	if n, _ := fmt.Sscanf(name, "items[%d].%s", &i, &member); n == 2 {
		name = fmt.Sprintf("%s_%d", member, groups[i]+1)
	}
	if name == "items" {
		name = "sku_1"
	}
	for column, c := range columns {
		if c == name {
			return column
		}
	}
	return 0
}

// WriteCSV writes orders of at most three items each, after a header.
func WriteCSV(w io.Writer, list []Order) error {
	writer := csv.NewWriter(w)
	if err := writer.Write(columns); err != nil {
		return fmt.Errorf("write header of orders: %w", err)
	}
	for _, o := range list {
		if err := within("items of "+o.ID, len(o.Items), 1, csvItems); err != nil {
			return err
		}
		if err := writer.Write(o.record()); err != nil {
			return fmt.Errorf("write %s: %w", o.ID, err)
		}
	}
	writer.Flush()
	return writer.Error()
}

func (o Order) record() []string {
	record := []string{o.ID, o.Customer, o.Email, o.Country, o.Currency, strconv.Itoa(o.TotalCents)}
	for _, i := range o.Items {
		record = append(record, i.SKU, i.Name, strconv.Itoa(i.Quantity), strconv.Itoa(i.PriceCents))
	}
	return append(record, make([]string, len(columns)-len(record))...)
}
