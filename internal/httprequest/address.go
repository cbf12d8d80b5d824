package httprequest

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/perdure/perdure/jobs"
)

// policy says which addresses may be dialled.
type policy struct {
	private, loopback bool
	nets              []netip.Prefix
}

// control is given to the dialler: it sees the very address of each connection,
// after name resolution and before the first packet, so a name whose address
// changes between two look-ups gains nothing.
func (p policy) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return jobs.Permanent(&refusedError{text: "address is not an IP address and a port"})
	}
	return p.check(at.Addr())
}

// check returns a permanent error unless the address may be dialled.
func (p policy) check(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	for _, network := range p.nets {
		if network.Contains(addr) {
			return nil
		}
	}
	kind := kindOf(addr)
	if kind == public || kind == private && p.private || kind == loopback && p.loopback {
		return nil
	}
	advice := "add its network to " + settingNets
	if kind == private {
		advice = "set " + settingPrivate + " or " + advice
	}
	return jobs.Permanent(&refusedError{text: fmt.Sprintf("address %s is %s: to allow it, %s", addr, kind, advice)})
}

// refusedError is an address that may not be dialled.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

// addressKind is what an address is for.
type addressKind string

const (
	public      addressKind = "public"
	private     addressKind = "private"
	loopback    addressKind = "loopback"
	metadata    addressKind = "a cloud metadata service"
	unspecified addressKind = "unspecified"
	linkLocal   addressKind = "link-local"
	shared      addressKind = "shared (carrier-grade NAT)"
	special     addressKind = "special-purpose"
	document    addressKind = "for documentation"
	benchmark   addressKind = "for benchmarks"
	multicast   addressKind = "multicast"
	reserved    addressKind = "reserved"
	translated  addressKind = "an IPv4 address in IPv6 (NAT64, 6to4 or Teredo)"
)

// ranges follow the IANA special-purpose address registries (RFC 6890). The
// first match counts: metadata services stand before the private ranges that
// hold some of them, so that allowing private addresses does not open them.
var ranges = []struct {
	network netip.Prefix
	kind    addressKind
}{
	{netip.MustParsePrefix("169.254.169.254/32"), metadata},
	{netip.MustParsePrefix("168.63.129.16/32"), metadata},
	{netip.MustParsePrefix("100.100.100.200/32"), metadata},
	{netip.MustParsePrefix("192.0.0.192/32"), metadata},
	{netip.MustParsePrefix("fd00:ec2::/32"), metadata},
	{netip.MustParsePrefix("fd20:ce::254/128"), metadata},
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), metadata},

	{netip.MustParsePrefix("0.0.0.0/8"), unspecified},
	{netip.MustParsePrefix("10.0.0.0/8"), private},
	{netip.MustParsePrefix("100.64.0.0/10"), shared},
	{netip.MustParsePrefix("127.0.0.0/8"), loopback},
	{netip.MustParsePrefix("169.254.0.0/16"), linkLocal},
	{netip.MustParsePrefix("172.16.0.0/12"), private},
	{netip.MustParsePrefix("192.0.0.0/24"), special},
	{netip.MustParsePrefix("192.0.2.0/24"), document},
	{netip.MustParsePrefix("192.88.99.0/24"), translated},
	{netip.MustParsePrefix("192.168.0.0/16"), private},
	{netip.MustParsePrefix("198.18.0.0/15"), benchmark},
	{netip.MustParsePrefix("198.51.100.0/24"), document},
	{netip.MustParsePrefix("203.0.113.0/24"), document},
	{netip.MustParsePrefix("224.0.0.0/4"), multicast},
	{netip.MustParsePrefix("240.0.0.0/4"), reserved},

	{netip.MustParsePrefix("::/128"), unspecified},
	{netip.MustParsePrefix("::1/128"), loopback},
	{netip.MustParsePrefix("::/96"), translated},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), translated},
	{netip.MustParsePrefix("64:ff9b::/96"), translated},
	{netip.MustParsePrefix("64:ff9b:1::/48"), translated},
	{netip.MustParsePrefix("2001::/32"), translated},
	{netip.MustParsePrefix("2001:2::/48"), benchmark},
	{netip.MustParsePrefix("2001::/23"), special},
	{netip.MustParsePrefix("2001:db8::/32"), document},
	{netip.MustParsePrefix("2002::/16"), translated},
	{netip.MustParsePrefix("3fff::/20"), document},
	{netip.MustParsePrefix("2000::/3"), public},
	{netip.MustParsePrefix("fc00::/7"), private},
	{netip.MustParsePrefix("fe80::/10"), linkLocal},
	{netip.MustParsePrefix("ff00::/8"), multicast},
	{netip.MustParsePrefix("::/0"), reserved},
}

func kindOf(addr netip.Addr) addressKind {
	if !addr.IsValid() {
		return reserved
	}
	for _, r := range ranges {
		if r.network.Contains(addr) {
			return r.kind
		}
	}
	return public
}
