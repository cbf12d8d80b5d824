// Command orders is an application's own binary: every perdure command, around
// its own kinds.
package main

import (
	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/orders"
)

func main() { perdure.Main(orders.ServicesFromEnv().Handlers()...) }
