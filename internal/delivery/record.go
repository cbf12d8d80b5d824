package delivery

import "github.com/perdure/perdure/jobs"

// DeadRecord is all that is known of a quarantined job.
type DeadRecord struct {
	Dead
	Job     jobs.Info
	Payload []byte            // nil when it was erased or cannot be read
	Headers map[string]string // the producer's own
	Edits   []Edit            // of the payload, by people, oldest first
	Raw     []byte            // the message as stored, when it cannot be read
	// Fields is the job's whole record, as it is stored.
	Fields map[string]string
}
