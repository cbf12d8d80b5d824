// Package cron makes schedules come true: at each instant of a timetable a job is
// enqueued, or dead letters are replayed, once however many schedulers run.
//
// What is to be done at an instant is decided once, by a script that compares the
// last instant that was decided, and is then carried out, by whoever finds it, under
// a key made of schedule and instant. So it does not matter which scheduler dies
// where.
package cron
