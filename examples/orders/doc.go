// Package orders is a real application on perdure: order fulfilment over three
// HTTP services, payments, warehouse and mail. Each service keeps an append-only
// ledger of its effects, and has a switch that makes it fail in the ways services
// fail. It is the tutorial, and what drills and tests run.
package orders
