-- silent: owners that have not beaten for too long.
-- KEYS[1] perdure:owners
-- ARGV[1] limit in ms   ARGV[2] most owners to name
-- Returns the owners, longest silent first.
local _, now_ms = clock()
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms - tonumber(ARGV[1]), 'LIMIT', 0, tonumber(ARGV[2]))
