package deadletter

import (
	"fmt"

	"github.com/perdure/perdure/jobs"
)

// StateError says that a job is not in quarantine. It matches [jobs.ErrConflict].
type StateError struct{ Info jobs.Info }

// Error says where the job stands instead.
func (e *StateError) Error() string {
	return fmt.Sprintf("%s/%s is %s, not quarantined", e.Info.Queue, e.Info.Key, e.Info.State)
}

// Is reports that the error matches [jobs.ErrConflict].
func (e *StateError) Is(target error) bool { return target == jobs.ErrConflict }
