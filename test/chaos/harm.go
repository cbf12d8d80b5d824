package chaos

import (
	"context"
	"sync"
	"time"
)

// harm carries out the plan and returns when the last fault is over.
func (s *stage) harm(ctx context.Context) {
	began := time.Now()
	var lanes sync.WaitGroup
	for _, l := range plan(s.options) {
		lanes.Go(func() {
			var lasting sync.WaitGroup
			defer lasting.Wait()
			for _, f := range l.faults {
				if !sleep(ctx, f.At-time.Since(began)) {
					return
				}
				if l.apart {
					lasting.Go(func() { s.strike(ctx, f) })
				} else {
					s.strike(ctx, f)
				}
			}
		})
	}
	lanes.Wait()
	sleep(ctx, s.options.Duration-time.Since(began))
}

// strike makes one fault happen and counts it when it did.
func (s *stage) strike(ctx context.Context, f fault) {
	happened, err := s.happen(ctx, f)
	s.fail(err)
	if happened && err == nil {
		s.counters.add(f.Kind, 1)
	}
}

func (s *stage) happen(ctx context.Context, f fault) (bool, error) {
	switch f.Kind {
	case workerKill:
		return meet(s.workers(), f.Pick, (*member).kill), nil
	case workerStop:
		return meet(s.workers(), f.Pick, func(m *member) bool { return m.freeze(ctx, f.Hold) }), nil
	case schedulerKill:
		return meet(s.members[s.options.Workers:], f.Pick, (*member).kill), nil
	case redisKill:
		return s.redis.kill(), s.redis.start(ctx)
	case redisPower:
		happened, err := s.redis.losePower()
		if err != nil {
			return false, err
		}
		return happened, s.redis.start(ctx)
	case redisFreeze:
		return s.redis.freeze(ctx, f.Hold), nil
	case serviceOutage:
		return s.outage(ctx, f)
	case scriptFlush:
		return true, s.redis.rdb.ScriptFlush(ctx).Err()
	}
	return s.cut(ctx, f)
}

// meet does something to one of the members, the picked one or the next that it
// can be done to.
func meet(members []*member, pick int, do func(*member) bool) bool {
	for i := range members {
		if do(members[(pick+i)%len(members)]) {
			return true
		}
	}
	return false
}

// cut disturbs the connections of one member, or of the feeder.
func (s *stage) cut(ctx context.Context, f fault) (bool, error) {
	proxies := []*proxy{s.feeder}
	for _, m := range s.members {
		proxies = append(proxies, m.proxy)
	}
	for i := range proxies {
		if happened, err := proxies[(f.Pick/2+i)%len(proxies)].disturb(ctx, f); happened || err != nil {
			return happened, err
		}
	}
	return false, nil
}
