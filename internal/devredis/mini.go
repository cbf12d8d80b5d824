package devredis

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"
)

type mini struct{ server *miniredis.Miniredis }

func startMiniredis() (backend, error) {
	server := miniredis.NewMiniRedis()
	// Without it no key would ever expire.
	server.ClockTTL(true)
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("start miniredis: %w", err)
	}
	return mini{server}, nil
}

func (m mini) addr() string { return m.server.Addr() }

func (m mini) describe() string {
	return fmt.Sprintf("miniredis inside this process on %s; nothing survives a restart (install redis-server to keep jobs)", m.addr())
}

func (m mini) stop() error {
	m.server.Close()
	return nil
}
