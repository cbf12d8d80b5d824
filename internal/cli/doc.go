// Package cli is the command line of perdure, and of every application built
// with perdure.Main: settings from the environment and from flags, one file a
// command, answers for people or for machines, exit codes that a script can rely
// on.
package cli
