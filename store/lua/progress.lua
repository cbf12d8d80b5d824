-- progress: save what a long step has done so far; the next execution can read it.
-- KEYS[1] asynq:{q}:t:<key>
-- ARGV[1] token   ARGV[2] step, '' outside of any   ARGV[3] progress
-- Returns {code, asked}, asked as checkpoint says: code 1 saved; -1 no such job; -2 stale token. Saving twice is the same as once.
local owns = ownership(KEYS[1], ARGV[1])
if owns == 2 then return {-2, 0} end
if owns ~= 1 then return {owns, 0} end
redis.call('HSET', KEYS[1], 'h:' .. ARGV[2], ARGV[3])
return {1, asked(KEYS[1])}
