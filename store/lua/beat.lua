-- beat: an owner says that it lives.
-- KEYS[1] perdure:owners
-- ARGV[1] owner   ARGV[2] '1' when it has beaten before
-- Returns 1, or 0 when the owner was declared dead meanwhile: it must take a new identity.
local _, now_ms = clock()
if ARGV[2] == '1' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now_ms, ARGV[1])
return 1
