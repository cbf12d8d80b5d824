package main

import (
	"bytes"
	"os"
	"testing"
)

func TestFileIsWhatIsGenerated(t *testing.T) {
	var text bytes.Buffer
	if err := generate(&text); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile("../orders.csv")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, text.Bytes()) {
		t.Error("orders.csv differs: run go generate ./examples/orders")
	}
}
