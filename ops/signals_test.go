package ops

import (
	"testing"

	"github.com/perdure/perdure/jobs"
)

func TestSignalsAndApprovals(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.jobs["default/p"] = jobs.Info{Queue: "default", Key: "p", State: jobs.StatePaused}
	f.jobs["default/done"] = jobs.Info{Queue: "default", Key: "done", State: jobs.StateCompleted}
	h, err := New(Options{Store: f, Tokens: testTokens(t)})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(secret, target, body string) reply {
		r := request("POST", "/api/v1/jobs/"+target, body)
		r.Header.Set("Authorization", "Bearer "+secret)
		return do(h, r)
	}
	for _, c := range []struct {
		secret, target, body string
		want                 int
	}{
		{producerSecret, "default/p/signals/paid", `{"data":{"amount":3},"id":"s1"}`, 200},
		{producerSecret, "default/p/signals/parts/7", `{}`, 200},
		{operatorSecret, "default/p/approvals/large", `{"reason":"fine"}`, 200},
		{operatorSecret, "default/p/approvals/large", `{"reason":"too dear","approved":false}`, 200},
		{producerSecret, "default/p/approvals/large", `{"reason":"fine"}`, 403},
		{viewerSecret, "default/p/signals/paid", `{}`, 403},
		{operatorSecret, "default/p/approvals/large", `{}`, 400},
		{operatorSecret, "default/p/approvals/large", `{"reason":"r","approved":"yes"}`, 400},
		{producerSecret, "default/p/signals/no%20name", `{}`, 400},
		{producerSecret, "default/none/signals/paid", `{}`, 404},
		{producerSecret, "default/done/signals/paid", `{}`, 409},
	} {
		if got := ask(c.secret, c.target, c.body); got.Code != c.want {
			t.Errorf("%s %s: %d %s, want %d", c.target, c.body, got.Code, got.text, c.want)
		}
	}
	if len(f.signals) != 4 {
		t.Fatalf("signals %+v", f.signals)
	}
	for i, want := range []string{`{"amount":3}`, "null", `{"approved":true,"actor":"ola","reason":"fine"}`, `{"approved":false,"actor":"ola","reason":"too dear"}`} {
		if got := string(f.signals[i].Data); got != want {
			t.Errorf("signal %d carries %s, want %s", i, got, want)
		}
	}
	if f.signals[0].ID != "s1" || f.signals[1].Name != "parts/7" || f.signals[2].Reason != "fine" {
		t.Errorf("signals %+v", f.signals)
	}
}
