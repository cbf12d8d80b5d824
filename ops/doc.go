// Package ops is perdure over HTTP: the API, a page of links and numbers, asynq's
// web UI (for looking only), health and metrics.
//
// Every route is in one table and names the role that may use it; a route that
// names none may be used by nobody. Without access tokens the service is for its
// own machine: it refuses to listen elsewhere, answers only to loopback names,
// and takes no request that a web page of another origin could have sent.
// Refusals are RFC 9457 problems, made from errors by one table.
package ops
