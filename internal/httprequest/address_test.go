package httprequest

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/perdure/perdure/jobs"
)

func TestAddresses(t *testing.T) {
	for _, test := range []struct {
		addresses string
		kind      addressKind
	}{
		{"1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255", public},
		{"2606:4700:4700::1111 2001:4860:4860::8888 2a00::1 2001:200::1 2003::1 3ffe::1 ::ffff:8.8.8.8", public},
		{"0.0.0.0 0.1.2.3 0.255.255.255 :: ::ffff:0.0.0.0", unspecified},
		{"10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255 ::ffff:10.0.0.1 ::ffff:192.168.1.1", private},
		{"fc00:: fc00::1 fd12:3456::1 fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", private},
		{"100.64.0.0 100.127.255.255 ::ffff:100.64.0.1", shared},
		{"127.0.0.0 127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1", loopback},
		{"169.254.0.0 169.254.1.1 169.254.255.255 fe80::1 fe80::1%eth0 febf::1 ::ffff:169.254.1.1", linkLocal},
		{"169.254.169.254 ::ffff:169.254.169.254 168.63.129.16 100.100.100.200 192.0.0.192 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:c1::a9fe:a9fe", metadata},
		{"192.0.0.1 192.0.0.255 2001:10::1 2001:20::1 2001:1ff::1", special},
		{"192.0.2.1 198.51.100.255 203.0.113.7 2001:db8::1 2001:db8:ffff::1 3fff::1 3fff:fff::1", document},
		{"198.18.0.0 198.19.255.255 2001:2::1", benchmark},
		{"224.0.0.1 239.255.255.255 ff00::1 ff02::1", multicast},
		{"240.0.0.1 255.255.255.255 100::1 5f00::1 fec0::1 4000::1 8000::1 1::1", reserved},
		{"192.88.99.1 ::127.0.0.1 ::ffff:0:7f00:1 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::a00:1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2002:7f00:1::1 2002::1", translated},
	} {
		for text := range strings.FieldsSeq(test.addresses) {
			addr := netip.MustParseAddr(text)
			if got := kindOf(addr.Unmap().WithZone("")); got != test.kind {
				t.Errorf("%s is %s, want %s", text, got, test.kind)
			}
			checkPolicies(t, addr, test.kind)
		}
	}
}

func checkPolicies(t *testing.T, addr netip.Addr, kind addressKind) {
	t.Helper()
	plain := addr.Unmap().WithZone("")
	for _, test := range []struct {
		name    string
		policy  policy
		allowed bool
	}{
		{"default", policy{}, kind == public},
		{"private", policy{private: true}, kind == public || kind == private},
		{"loopback", policy{loopback: true}, kind == public || kind == loopback},
		{"its network", policy{nets: []netip.Prefix{netip.PrefixFrom(plain, plain.BitLen())}}, true},
		{"another network", policy{nets: []netip.Prefix{netip.MustParsePrefix("9.9.9.9/32")}}, kind == public},
	} {
		err := test.policy.control(t.Context(), "tcp", netip.AddrPortFrom(addr, 443).String(), nil)
		if (err == nil) != test.allowed {
			t.Errorf("%s under %s: %v", addr, test.name, err)
		}
		if err == nil {
			continue
		}
		if c := jobs.Classify(err); c.Class != jobs.ClassInvalid || c.Rule != "permanent" {
			t.Errorf("%s: classified %+v", addr, c)
		}
		if text := err.Error(); !strings.Contains(text, plain.String()+" is ") || !strings.Contains(text, settingNets) {
			t.Errorf("%s: message %q", addr, text)
		}
		if strings.Contains(err.Error(), settingPrivate) != (kind == private) {
			t.Errorf("%s: message %q and the private setting", addr, err)
		}
	}
}

func TestControlRefusesWhatIsNoAddress(t *testing.T) {
	for _, address := range []string{"", "host:80", "10.0.0.1", "/run/socket"} {
		if err := (policy{private: true}).control(t.Context(), "tcp", address, nil); jobs.Classify(err).Class != jobs.ClassInvalid {
			t.Errorf("%q: %v", address, err)
		}
	}
	if kindOf(netip.Addr{}) == public {
		t.Error("the zero address is public")
	}
}

// The address is checked as it is dialled, however the URL writes it.
func TestRefusedAddressIsNotDialled(t *testing.T) {
	calls := 0
	server := serve(t, func(http.ResponseWriter, *http.Request) { calls++ })
	port := mustURL(t, server.URL).Port()
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "[::1]", "2130706433", "0x7f.1", "127.1"} {
		_, err := run(t, t.Context(), newTestCaller(t, Options{AllowPrivate: true}), newAttempt(), Request{URL: "http://" + host + ":" + port})
		var refused *refusedError
		if !errors.As(err, &refused) && jobs.Classify(err).Class != jobs.ClassUnavailable { // unavailable: no such name, no IPv6 here
			t.Errorf("%s: %v", host, err)
		}
	}
	if calls != 0 {
		t.Errorf("%d calls were made", calls)
	}
}

func TestRefusalMessage(t *testing.T) {
	_, err := run(t, t.Context(), newTestCaller(t, Options{}), newAttempt(), Request{URL: "http://10.1.2.3/x?token=1"})
	const want = `step "request": call to http://10.1.2.3: address 10.1.2.3 is private: to allow it, set PERDURE_HTTP_ALLOW_PRIVATE or add its network to PERDURE_HTTP_ALLOW_NETS`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if c := jobs.Classify(err); c.Class != jobs.ClassInvalid || c.Step != "request" {
		t.Errorf("classified %+v", c)
	}
}

func TestAllowedByNetwork(t *testing.T) {
	server := serve(t, func(http.ResponseWriter, *http.Request) {})
	o := Options{AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	if _, err := run(t, t.Context(), newTestCaller(t, o), newAttempt(), Request{URL: server.URL}); err != nil {
		t.Error(err)
	}
}

func TestProxyFromEnvironmentIsIgnored(t *testing.T) {
	if newTransport(policy{}).Proxy != nil {
		t.Error("the transport has a proxy")
	}
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
