// Command perdure is the stock binary with the built-in kinds. An application
// builds the same around its own kinds with perdure.Main.
package main

import "github.com/perdure/perdure"

func main() { perdure.Main() }
