package orders

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/perdure/perdure/jobs"
)

// importing executes a batch once, as a worker would.
func (a *attempt) importing(t *testing.T, s Services, b Batch) (Imported, error) {
	t.Helper()
	payload, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	a.entered = map[string]bool{}
	result, err := Import.Do(s.Import).Run(jobs.WithAttempt(t.Context(), a), payload)
	var imported Imported
	if err == nil {
		err = json.Unmarshal(result, &imported)
	}
	return imported, err
}

func TestImportGoesOnAfterTheLastSavedLine(t *testing.T) {
	r, a := newRig(t), newAttempt()
	a.definition = Import.Definition()
	b := Batch{First: 2999, Lines: 2}
	a.cut = errors.New("cut off after the first line")
	if _, err := a.importing(t, r.Services, b); !errors.Is(err, a.cut) {
		t.Fatalf("cut off: %v", err)
	}
	a.cut = nil
	imported, err := a.importing(t, r.Services, b)
	list, _ := Sample()
	if err != nil || imported != (Imported{Lines: 2, Last: list[2999].ID}) {
		t.Fatalf("%+v, %v", imported, err)
	}
	if calls := r.count(t, "received"); calls["/reserve"] != 2 {
		t.Errorf("%d calls for 2 lines", calls["/reserve"])
	}
	entries, err := ReadLedger(r.ledger("warehouse"))
	if err != nil {
		t.Fatal(err)
	}
	for key, n := range Effects(entries) {
		if n != 1 {
			t.Errorf("%s had %d effects", key, n)
		}
	}
}

func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	for b, good := range map[Batch]bool{
		{1, 3000}: true, {3000, 1}: true, {0, 1}: false, {1, 0}: false, {3000, 2}: false, {3001, 1}: false, {-1, 5}: false, {1, 1 << 62}: false,
	} {
		if err := b.Validate(); (err == nil) != good || err != nil && !errors.Is(err, jobs.ErrInvalid) {
			t.Errorf("%+v: %v", b, err)
		}
	}
	list, err := Sample()
	if err != nil || len(list) != csvLines {
		t.Errorf("%d lines, %v", len(list), err)
	}
}
