package store

const scriptChanges = ``
