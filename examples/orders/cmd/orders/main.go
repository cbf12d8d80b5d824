// Command orders is the example's own binary: every perdure command around its
// kind.
package main

import (
	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/orders"
)

func main() { perdure.Main(orders.ServicesFromEnv().Handler()) }
