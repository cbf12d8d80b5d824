package scheduler

import "context"

// post asks for what jobs of a queue have to tell other jobs to be relayed. When too
// much is asked for already, the next look at the queue asks again.
func (s *Scheduler) post(queue string) {
	select {
	case s.mail <- queue:
	default:
	}
}

// relay delivers, beside the other loops: cancelling ten thousand children takes
// longer than a due job may wait.
func (s *Scheduler) relay(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case queue := <-s.mail:
			for more := true; more && ctx.Err() == nil; {
				var err error
				more, err = s.store.Relay(ctx, queue)
				s.complain(ctx, "cannot tell parents and children about each other", err)
			}
		}
	}
}
