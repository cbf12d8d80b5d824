package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/perdure/perdure/jobs"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// scripts are parsed once. Each file of lua/ is one script; prelude.lua, the few
// functions they share, is put in front of each.
var scripts = loadScripts()

func loadScripts() map[string]*redis.Script {
	prelude := readLua("prelude")
	entries, _ := luaFiles.ReadDir("lua")
	loaded := map[string]*redis.Script{}
	for _, entry := range entries {
		name := strings.TrimSuffix(entry.Name(), ".lua")
		if name != "prelude" {
			loaded[name] = redis.NewScript(prelude + "\n" + readLua(name))
		}
	}
	return loaded
}

func readLua(name string) string {
	text, err := luaFiles.ReadFile("lua/" + name + ".lua")
	if err != nil {
		return ""
	}
	return string(text)
}

// ScriptName returns the name of the script with this SHA-1, or "". Fault
// injection and command counts in tests use it.
func ScriptName(sha string) string {
	for name, script := range scripts {
		if script.Hash() == sha {
			return name
		}
	}
	return ""
}

// ScriptNames returns the name of every script.
func ScriptNames() []string {
	var names []string
	for name := range scripts {
		names = append(names, name)
	}
	return names
}

// run executes a script: EVALSHA, then EVAL where Redis does not have it yet.
func (s *Store) run(ctx context.Context, name string, keys []string, args ...any) (any, error) {
	reply, err := scripts[name].Run(ctx, s.rdb, keys, args...).Result()
	if err != nil && err != redis.Nil {
		return nil, fmt.Errorf("script %s: %w", name, unreachable(err))
	}
	return reply, nil
}

// surely makes a call again while its outcome is unknown, three times in all. The
// call must be one that may be executed twice: a read, or a script that knows what
// it has done.
func surely[T any](ctx context.Context, call func() (T, error)) (T, error) {
	for _, wait := range betweenTries {
		answer, err := call()
		if !errors.Is(err, jobs.ErrUnavailable) || !sleep(ctx, wait) {
			return answer, err
		}
	}
	return call()
}

// betweenTries is short before the second: a connection that was cut is the usual
// cause, and a new one mends it.
var betweenTries = []time.Duration{5 * time.Millisecond, 150 * time.Millisecond}

// runCode executes a script that answers with one number.
func (s *Store) runCode(ctx context.Context, name string, keys []string, args ...any) (int64, error) {
	reply, err := s.run(ctx, name, keys, args...)
	if err != nil {
		return 0, err
	}
	code, ok := reply.(int64)
	if !ok {
		return 0, fmt.Errorf("script %s: answered %T instead of a number", name, reply)
	}
	return code, nil
}
